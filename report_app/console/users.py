"""/ops/users: the people who sign in, their roles, their sessions, and invitations."""

from uuid import UUID

import structlog
from flask import Response, abort, request, url_for
from werkzeug.wrappers import Response as BaseResponse

from analytics.accounts.store import AccountStore
from analytics.accounts.user import SITE_ROLES, Role, User, plain_email
from analytics.languages import gettext, translatable
from analytics.sites.store import SiteStore, UnknownSite
from report_app.console.access import owner
from report_app.console.console_page import FieldErrors, console_page, done
from report_app.page_blueprint import PageBlueprint

log = structlog.get_logger()

USER_GONE = translatable("There is no such user any more.")
NOT_YOURSELF = translatable("You cannot remove yourself. Ask another owner.")
NOT_AN_EMAIL = translatable("This is not an e-mail address.")
SITE_OR_OWNER = translatable("Name a site, or choose the role owner.")
ALL_ROLES = (*SITE_ROLES, Role.OWNER)


def add_users(blueprint: PageBlueprint, accounts: AccountStore, sites: SiteStore) -> None:
    @blueprint.get("/ops/users")
    def users() -> Response:
        return _list_users(accounts)

    @blueprint.post("/ops/users/invite")
    def invite_user() -> Response:
        """Makes an invitation, whose link is shown once."""
        errors, token = _invite(accounts, sites)
        return _list_users(accounts, errors, url_for("accounts.join", token=token, _external=True) if token else "")

    @blueprint.get("/ops/users/<uuid:user_id>")
    def user(user_id: UUID) -> Response:
        found = accounts.get(user_id) or abort(404, USER_GONE)
        is_self = found.id == owner().id
        return console_page("user", within="users", user=found, roles=SITE_ROLES, is_self=is_self)

    @blueprint.post("/ops/users/<uuid:user_id>/role")
    def set_role(user_id: UUID) -> BaseResponse:
        """Gives the user a role for the site of the form. The role "" removes them from the site."""
        site_id, role = _sent_site(sites), _sent_role()
        changed = accounts.set_role(user_id, site_id, role) or abort(404, USER_GONE)
        return _changed(changed, "role_changed", gettext("The role for %(site)s is changed.", site=site_id))

    @blueprint.post("/ops/users/<uuid:user_id>/sign-out")
    def sign_out_user(user_id: UUID) -> BaseResponse:
        changed = accounts.end_sessions(user_id) or abort(404, USER_GONE)
        return _changed(changed, "signed_out_everywhere", gettext("All sessions of this user have ended."))

    @blueprint.post("/ops/users/<uuid:user_id>/two-step-off")
    def two_step_off_user(user_id: UUID) -> BaseResponse:
        changed = accounts.set_two_step(user_id, None) or abort(404, USER_GONE)
        return _changed(changed, "two_step_removed", gettext("This user signs in with the password only."))

    @blueprint.post("/ops/users/<uuid:user_id>/remove")
    def remove_user(user_id: UUID) -> BaseResponse:
        if user_id == owner().id:
            abort(409, NOT_YOURSELF)
        accounts.remove(user_id) or abort(404, USER_GONE)
        log.info("user_removed", user=str(user_id), by=str(owner().id))
        return done(gettext("The user is removed. Their sessions have ended."), "users")


def _list_users(accounts: AccountStore, errors: FieldErrors | None = None, link: str = "") -> Response:
    given = request.form if errors else {}
    return console_page(
        "users",
        400 if errors else 200,
        users=accounts.list(),
        errors=errors or {},
        link=link,
        given=given,
        roles=ALL_ROLES,
    )


def _invite(accounts: AccountStore, sites: SiteStore) -> tuple[FieldErrors, str]:
    """Make the invitation that the form asks for. Returns what is wrong by field, and the token."""
    form = request.form
    email, site, role = plain_email(form.get("email", "")), form.get("site", "").strip(), form.get("role", "")
    if not email:
        return {"email": [gettext(NOT_AN_EMAIL)]}, ""
    if role == Role.OWNER:
        token = accounts.invite_owner(email)
    else:
        try:
            (site,) = sites.ids_of([site])
        except UnknownSite as error:
            return {"site": [gettext(error.message if site else SITE_OR_OWNER)]}, ""
        token = accounts.invite(email, site, _sent_role() or Role.VIEWER)
    log.info("user_invited", role=role, site_id=site, by=str(owner().id))
    return {}, token


def _sent_site(sites: SiteStore) -> str:
    """The site of the form. It may be one without settings, of which the user has a role."""
    return sites.id_of(request.form.get("site", "").strip()) or abort(400, gettext("site: Name a site."))


def _sent_role() -> Role | None:
    role = request.form.get("role", "")
    if role and role not in SITE_ROLES:
        abort(400, gettext("role: Choose one of %(choices)s.", choices=", ".join(SITE_ROLES)))
    return Role(role) if role else None


def _changed(user: User, event: str, message: str) -> BaseResponse:
    log.info(event, user=str(user.id), by=str(owner().id))
    return done(message, "user", user_id=user.id)
