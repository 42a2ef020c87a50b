"""/members/<site_id>: who may read and change a site. An owner invites members, changes roles, and removes members.

A site_id may hold slashes, so each route ends with it. It may be a domain of the site instead. Routes raise UnknownSite
and InvalidQuery.
"""

from uuid import UUID

import structlog
from flask import Blueprint, abort, flash, redirect, request, url_for
from flask.typing import ResponseReturnValue

from analytics.accounts.store import AccountStore
from analytics.accounts.user import SITE_ROLES, Role, User, plain_email
from analytics.languages import gettext, translatable
from analytics.queries.query_schema import check_site_id
from report_app.accounts.form_page import form_page
from report_app.accounts.forms import InvitationForm
from report_app.page_access import required_user
from report_app.site_lookup import SiteLookup

log = structlog.get_logger()

NO_USER = translatable("There is no such user any more.")
_FOR_OWNERS = translatable("Only an owner may see and change the members of a site.")


def add_members(blueprint: Blueprint, accounts: AccountStore, site_called: SiteLookup) -> None:
    @blueprint.route("/members/<path:site_id>", methods=["GET", "POST"], merge_slashes=False)
    def members(site_id: str) -> ResponseReturnValue:
        """The page, and the invitation of another member, whose link is shown once."""
        owner, form, link = _owner(), InvitationForm(), ""
        site_id = site_called(check_site_id(site_id)).site_id
        if form.validate_on_submit():
            token = accounts.invite(plain_email(form.email.data), site_id, Role(form.role.data))
            link = url_for("accounts.join", token=token, _external=True)
            log.info("member_invited", site_id=site_id, by=str(owner.id))
        found, invited = accounts.members(site_id), accounts.invitations(site_id)
        return form_page(
            "members",
            form,
            user=owner,
            site_id=site_id,
            members=found,
            invitations=invited,
            link=link,
            roles=SITE_ROLES,
        )

    @blueprint.post("/member/<uuid:user_id>/<path:site_id>", merge_slashes=False)
    def change_member(user_id: UUID, site_id: str) -> ResponseReturnValue:
        """Gives a member the role of the form. Without a role, the member is removed from the site."""
        owner, role = _owner(), request.form.get("role", "")
        site_id = site_called(check_site_id(site_id)).site_id
        if role and role not in SITE_ROLES:
            abort(400, gettext("The role must be one of %(roles)s.", roles=", ".join(SITE_ROLES)))
        accounts.set_role(user_id, site_id, Role(role) if role else None) or abort(404, NO_USER)
        log.info("role_changed", site_id=site_id, user=str(user_id), role=role, by=str(owner.id))
        return _done(site_id, gettext("The role is changed.") if role else gettext("The member is removed."))

    @blueprint.post("/invitation/<path:site_id>", merge_slashes=False)
    def withdraw_invitation(site_id: str) -> ResponseReturnValue:
        _owner()
        site_id = site_called(check_site_id(site_id)).site_id
        accounts.withdraw(plain_email(request.form.get("email", "")), site_id)
        return _done(site_id, gettext("The invitation is withdrawn. Its link does not work any more."))


def _owner() -> User:
    user = required_user()
    return user if user.is_owner else abort(403, _FOR_OWNERS)


def _done(site_id: str, message: str) -> ResponseReturnValue:
    flash(message)
    return redirect(url_for("accounts.members", site_id=site_id), 303)
