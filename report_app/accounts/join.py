"""/join/<token>: a person who has an invitation link becomes a user, or a user gets another site."""

import structlog
from flask import Blueprint, abort, redirect
from flask.typing import ResponseReturnValue
from flask_wtf import FlaskForm

from analytics.accounts.invitation import Invitation
from analytics.accounts.passwords import hash_password
from analytics.accounts.store import AccountStore, EmailTaken, InvitationOver
from analytics.accounts.user import User, plain_email
from analytics.languages import translatable
from report_app.accounts.form_page import form_page, refused
from report_app.accounts.forms import JoinForm
from report_app.page_access import signed_in_user, start_session

log = structlog.get_logger()

OVER = translatable("This link was used, has expired, or is for another e-mail address. Ask for another one.")
EMAIL_TAKEN = translatable("This address has an account already. Sign in first, and then open this link again.")


def add_join(blueprint: Blueprint, accounts: AccountStore) -> None:
    @blueprint.route("/join/<token>", methods=["GET", "POST"])
    def join(token: str) -> ResponseReturnValue:
        invitation, user = accounts.invitation(token) or abort(404, OVER), signed_in_user()
        try:
            return _accept(token, user, invitation) if user else _create(token, invitation)
        except InvitationOver:
            abort(404, OVER)

    def _accept(token: str, user: User, invitation: Invitation) -> ResponseReturnValue:
        """Gives the signed-in user what the invitation offers."""
        form = FlaskForm()
        if not form.validate_on_submit():
            return form_page("accept", form, invitation=invitation, user=user)
        accounts.accept(token, user.id)
        return redirect("/", 303)

    def _create(token: str, invitation: Invitation) -> ResponseReturnValue:
        form = JoinForm()
        if invitation.email:  # fixed, so that the page says nothing about other addresses
            form.email.process_data(invitation.email)
        user = _user_from(token, form) if form.validate_on_submit() else None
        if user is None:
            return form_page("join", form, invitation=invitation)
        start_session(user)
        return redirect("/", 303)

    def _user_from(token: str, form: JoinForm) -> User | None:
        password_hash = hash_password(form.password.data)
        try:
            user = accounts.join(token, plain_email(form.email.data), form.name.data.strip(), password_hash)
        except EmailTaken:
            refused(form.email, EMAIL_TAKEN)
            return None
        log.info("user_joined", user=str(user.id))
        return user
