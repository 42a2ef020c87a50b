"""/sharing/<site_id>: opens a site's reports to everyone, or to those who have a link. /share/<token>: such a link.

A site_id may hold slashes, so each route ends with it. It may be a domain of the site instead. Routes raise UnknownSite
and InvalidQuery.
"""

from collections.abc import Callable
from datetime import datetime, timedelta

import structlog
from flask import Blueprint, abort, flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from analytics.accounts.passwords import hash_password, is_password
from analytics.accounts.sharing import MOST_LINKS, SharedLink, SharingStore
from analytics.accounts.user import User
from analytics.languages import gettext, translatable
from report_app.accounts.attempts import Attempts
from report_app.accounts.form_page import form_page, refused
from report_app.accounts.forms import FramingForm, LinkPasswordForm, SharedLinkForm
from report_app.page_access import open_link, site_path
from report_app.site_editor import editor_of
from report_app.site_lookup import SiteLookup

log = structlog.get_logger()

FOR_EDITORS = translatable("Only an owner or an editor of this site may change how it is shared.")
TOO_MANY_LINKS = translatable("A site has at most %(most)d links. Revoke one first.")
LINK_OVER = translatable("This link has expired, or its site does not share it any more. Ask for another one.")
WRONG_LINK_PASSWORD = translatable("The password is wrong.")


def add_sharing(
    blueprint: Blueprint,
    store: SharingStore,
    site_called: SiteLookup,
    attempts: Attempts,
    clock: Callable[[], datetime],
) -> None:
    @blueprint.route("/share/<token>", methods=["GET", "POST"])
    def shared_link(token: str) -> ResponseReturnValue:
        link, form = store.find(token) or abort(404, LINK_OVER), LinkPasswordForm()
        if link.password_hash and not (form.validate_on_submit() and _is_open(link, form)):
            return form_page("shared_link", form)
        open_link(link)
        there = {each.id for each in site_called(link.site_id).saved_filters}
        query = f"?f=is,segment,{link.filter_id}" if link.filter_id in there else ""
        return redirect(f"{site_path(link.site_id)}{query}", 303)

    def _is_open(link: SharedLink, form: LinkPasswordForm) -> bool:
        is_right = attempts.run(link.digest, lambda: is_password(form.password.data, link.password_hash))
        return is_right or refused(form.password, WRONG_LINK_PASSWORD)

    def _editor_of(name: str) -> tuple[User, str]:
        return editor_of(site_called, name, FOR_EDITORS)

    @blueprint.route("/sharing/<path:site_id>", methods=["GET", "POST"], merge_slashes=False)
    def sharing(site_id: str) -> ResponseReturnValue:
        """The page, and the creation of a link, which is shown once."""
        (user, site_id), form, token = _editor_of(site_id), SharedLinkForm(), ""
        form.offer(site_called(site_id).saved_filters)
        if form.validate_on_submit() and _has_room(site_id, form):
            token = _create(site_id, form)
            log.info("link_shared", site_id=site_id, by=str(user.id))
        return _sharing_page(user, site_id, form, _framing(site_id), token)

    def _framing(site_id: str) -> FramingForm:
        return FramingForm(formdata=None, origins="\n".join(store.framing_origins(site_id)))

    def _sharing_page(
        user: User, site_id: str, form: SharedLinkForm, framing: FramingForm, token: str = ""
    ) -> ResponseReturnValue:
        """The page with all its forms. `token`: of the link that was created."""
        answer = render_template(
            "accounts/sharing.html", user=user, site_id=site_id, links=store.list(site_id), now=clock(),
            is_public=store.is_public(site_id), origins=store.framing_origins(site_id), form=form, framing=framing,
            token=token,
        )  # fmt: skip
        return answer, 400 if form.errors or framing.errors else 200

    @blueprint.post("/sharing-framing/<path:site_id>", merge_slashes=False)
    def set_framing(site_id: str) -> ResponseReturnValue:
        (user, site_id), framing = _editor_of(site_id), FramingForm()
        if not framing.validate_on_submit():
            form = SharedLinkForm(formdata=None)
            form.offer(site_called(site_id).saved_filters)
            return _sharing_page(user, site_id, form, framing)
        store.set_framing_origins(site_id, framing.read())
        log.info("site_framing_set", site_id=site_id, by=str(user.id))
        return _done(site_id, gettext("The origins are saved."))

    def _has_room(site_id: str, form: SharedLinkForm) -> bool:
        return len(store.list(site_id)) < MOST_LINKS or refused(form.name, gettext(TOO_MANY_LINKS, most=MOST_LINKS))

    def _create(site_id: str, form: SharedLinkForm) -> str:
        """The token of the link."""
        password_hash = hash_password(form.password.data) if form.password.data else None
        end = clock() + timedelta(days=int(form.days.data)) if form.days.data else None
        filter_id = int(form.saved_filter.data) if form.saved_filter.data else None
        return store.create(site_id, form.name.data.strip(), password_hash, end, filter_id)[1]

    @blueprint.post("/sharing-public/<path:site_id>", merge_slashes=False)
    def set_public(site_id: str) -> ResponseReturnValue:
        (user, site_id), is_public = _editor_of(site_id), request.form.get("public") == "yes"
        store.set_public(site_id, is_public)
        log.info("site_opened" if is_public else "site_closed", site_id=site_id, by=str(user.id))
        return _done(
            site_id, gettext("The site is public.") if is_public else gettext("The site is not public any more.")
        )

    @blueprint.post("/sharing-revoke/<path:site_id>", merge_slashes=False)
    def revoke_link(site_id: str) -> ResponseReturnValue:
        _, site_id = _editor_of(site_id)
        store.revoke(site_id, request.form.get("link", ""))
        return _done(site_id, gettext("The link does not work any more."))


def _done(site_id: str, message: str) -> ResponseReturnValue:
    flash(message)
    return redirect(url_for("accounts.sharing", site_id=site_id), 303)
