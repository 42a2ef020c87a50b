"""/account: a user's own account. They change the password, two-step sign-in, and end their sessions."""

from typing import Any

from flask import Blueprint, abort, flash, redirect, url_for
from flask.typing import ResponseReturnValue
from segno import make_qr

from analytics.accounts.authenticator import Authenticator
from analytics.accounts.one_time_codes import is_totp_secret, new_totp_secret, totp_uri
from analytics.accounts.passwords import hash_password
from analytics.accounts.user import User
from analytics.languages import gettext, translatable
from report_app.accounts.attempts import Attempts
from report_app.accounts.form_page import form_page, refused
from report_app.accounts.forms import LanguageForm, OwnPasswordForm, PasswordForm, TwoStepForm
from report_app.accounts.sign_in import WRONG_CODE
from report_app.page_access import end_session, required_user, start_session
from report_app.translation import speak_as_chosen

WRONG_PASSWORD = translatable("The password is wrong.")


def add_account(blueprint: Blueprint, authenticator: Authenticator, attempts: Attempts) -> None:
    accounts = authenticator.accounts

    @blueprint.get("/account")
    def account() -> ResponseReturnValue:
        return _account_page(required_user(), PasswordForm())

    @blueprint.post("/account/password")
    def change_password() -> ResponseReturnValue:
        """Ends all sessions. This browser gets another one."""
        user, form = required_user(), PasswordForm()
        if not (form.validate_on_submit() and _is_own(user, form.current)):
            return _account_page(user, form)
        start_session(accounts.set_password(user.id, hash_password(form.new.data)) or abort(404))
        return _done(gettext("The password is changed. Your other sessions have ended."))

    @blueprint.post("/account/language")
    def change_language() -> ResponseReturnValue:
        user, form = required_user(), LanguageForm()
        if not form.validate_on_submit():
            abort(400, gettext("Choose a language of the list."))
        accounts.set_language(user.id, form.language.data) or abort(404)
        speak_as_chosen(form.language.data)
        return _done(gettext("The language is saved."))

    @blueprint.post("/account/sign-out-everywhere")
    def sign_out_everywhere() -> ResponseReturnValue:
        accounts.end_sessions(required_user().id)
        end_session()
        return redirect(url_for("accounts.login"), 303)

    @blueprint.route("/account/two-step", methods=["GET", "POST"])
    def two_step() -> ResponseReturnValue:
        user, form = required_user(), TwoStepForm()
        secret = form.secret.data if is_totp_secret(form.secret.data or "") else new_totp_secret()
        codes = _start(user, secret, form) if form.validate_on_submit() else None
        if codes is None:
            return _two_step_page(user, secret, form)
        return form_page("recovery_codes", form, codes=codes, user=user)

    def _start(user: User, secret: str, form: TwoStepForm) -> list[str] | None:
        """Turns two-step sign-in on, and returns the recovery codes. Returns None if the form is refused."""
        if not _is_own(user, form.password):
            return None
        codes = authenticator.start_two_step(user, secret, form.code.data)
        if codes is None:
            refused(form.code, WRONG_CODE)
        return codes

    @blueprint.route("/account/two-step/off", methods=["GET", "POST"])
    def two_step_off() -> ResponseReturnValue:
        user, form = required_user(), OwnPasswordForm()
        if not (form.validate_on_submit() and _is_own(user, form.password)):
            return form_page("two_step_off", form, user=user)
        accounts.set_two_step(user.id, None)
        return _done(gettext("Two-step sign-in is off."))

    def _is_own(user: User, field: Any) -> bool:
        """Whether the field has the user's password. It counts as an attempt to sign in."""
        is_right = attempts.run(user.email, lambda: authenticator.is_own_password(user, field.data))
        return is_right or refused(field, WRONG_PASSWORD)


def _account_page(user: User, form: PasswordForm) -> ResponseReturnValue:
    return form_page("account", form, user=user, language_form=LanguageForm(formdata=None, language=user.language))


def _two_step_page(user: User, secret: str, form: TwoStepForm) -> ResponseReturnValue:
    """The secret is in the form until the user's app has it. The code shows that it does."""
    form.secret.process_data(secret)
    image = make_qr(totp_uri(secret, user.email)).svg_data_uri(scale=5, border=4, light="#fff")
    return form_page("two_step", form, user=user, secret=secret, image=image)


def _done(message: str) -> ResponseReturnValue:
    flash(message)
    return redirect(url_for("accounts.account"), 303)
