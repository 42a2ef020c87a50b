"""/login and /logout: to sign in with a password, and a one-time code if two-step sign-in is on, and to sign out."""

from collections.abc import Callable
from datetime import datetime, timedelta
from uuid import UUID

import structlog
from flask import Blueprint, redirect, request, session, url_for
from flask.typing import ResponseReturnValue

from analytics.accounts.authenticator import Authenticator
from analytics.accounts.user import User
from analytics.languages import translatable
from report_app.accounts.attempts import Attempts
from report_app.accounts.form_page import form_page, refused
from report_app.accounts.forms import CodeForm, SignInForm
from report_app.page_access import end_session, safe_path, start_session

log = structlog.get_logger()

_HALF_SIGNED_IN = "half_signed_in"  # in the cookie: whose password was right, while the code is missing
_CODE_LIFE = timedelta(minutes=10)

WRONG_LOGIN = translatable("The e-mail address or the password is wrong.")
WRONG_CODE = translatable("The code is wrong, or it was used before.")


def add_sign_in(
    blueprint: Blueprint, authenticator: Authenticator, attempts: Attempts, clock: Callable[[], datetime]
) -> None:
    @blueprint.route("/login", methods=["GET", "POST"])
    def login() -> ResponseReturnValue:
        form = SignInForm()
        user = _user_of(form) if form.validate_on_submit() else None
        if user is None:
            return form_page("login", form)
        return _ask_for_code(user) if user.two_step else _continue_as(user)

    def _user_of(form: SignInForm) -> User | None:
        email, password = form.email.data, form.password.data
        user = attempts.run(email, lambda: authenticator.user_with_password(email, password))
        if user is None:
            log.info("sign_in_refused", step="password")
            refused(form.password, WRONG_LOGIN)
        return user

    def _ask_for_code(user: User) -> ResponseReturnValue:
        session[_HALF_SIGNED_IN] = {"user_id": str(user.id), "epoch": user.epoch, "at": clock().timestamp()}
        return redirect(url_for("accounts.login_code", next=_next()), 303)

    @blueprint.route("/login/code", methods=["GET", "POST"])
    def login_code() -> ResponseReturnValue:
        form, user = CodeForm(), _half_signed_in()
        if user is None:
            return redirect(url_for("accounts.login", next=_next()), 303)
        return _continue_as(user) if form.validate_on_submit() and _is_code(user, form) else form_page("code", form)

    def _is_code(user: User, form: CodeForm) -> bool:
        if attempts.run(user.email, lambda: authenticator.use_code(user, form.code.data)):
            return True
        log.info("sign_in_refused", step="code", user=str(user.id))
        return refused(form.code, WRONG_CODE)

    def _half_signed_in() -> User | None:
        """The user who sent the right password in the last minutes. It ends as the user's sessions do."""
        found = session.get(_HALF_SIGNED_IN)
        if not found or clock().timestamp() - found["at"] > _CODE_LIFE.total_seconds():
            return None
        user = authenticator.accounts.get(UUID(found["user_id"]))
        return user if user and user.epoch == found["epoch"] else None

    def _continue_as(user: User) -> ResponseReturnValue:
        start_session(user)
        log.info("user_signed_in", user=str(user.id))
        return redirect(_next(), 303)

    @blueprint.post("/logout")
    def logout() -> ResponseReturnValue:
        end_session()
        return redirect(url_for("accounts.login"), 303)


def _next() -> str:
    """The page that the visitor asked for before they were sent to sign in."""
    return safe_path(request.args.get("next", "/"))
