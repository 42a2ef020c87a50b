"""/data/<site_id>: applies the site's rules for paths to stored events.

A site_id may hold slashes, so each route ends with it. It may be a domain of the site instead. Routes raise UnknownSite
and InvalidQuery.
"""

import structlog
from flask import Response, abort, flash, redirect, render_template, url_for
from werkzeug.wrappers import Response as BaseResponse

from analytics.accounts.user import User
from analytics.languages import ngettext, translatable
from analytics.segments.builder import apply_path_rules
from analytics.segments.engine import Segments
from analytics.segments.verification import months_of
from report_app.page_blueprint import PageBlueprint
from report_app.site_editor import editor_of
from report_app.site_lookup import SiteLookup

log = structlog.get_logger()

DATA_FOR_EDITORS = translatable("Only an owner or an editor of this site may change its data.")
NO_EVENTS = translatable("There are no events of this site.")


def site_data_blueprint(segments: Segments, site_called: SiteLookup) -> PageBlueprint:
    blueprint = PageBlueprint("site_data", __name__)

    def edited(name: str) -> tuple[User, str]:
        return editor_of(site_called, name, DATA_FOR_EDITORS)

    @blueprint.get("/data/<path:site_id>", merge_slashes=False)
    def data(site_id: str) -> Response:
        user, site_id = edited(site_id)
        months, site = segments.backfill.of_sites()[site_id], site_called(site_id)
        applied = segments.store.manifest(site_id).paths == site.rules_for_paths()
        return Response(
            render_template("accounts/data.html", user=user, site_id=site_id, site=site, months=months, applied=applied)
        )

    @blueprint.post("/data-path-rules/<path:site_id>", merge_slashes=False)
    def apply_rules(site_id: str) -> BaseResponse:
        user, site_id = edited(site_id)
        months = months_of(segments, site_id) or abort(400, NO_EVENTS)
        apply_path_rules(segments.builder, site_called(site_id), months)
        log.info("path_rules_applied", site_id=site_id, months=len(months), by=str(user.id))
        said = ngettext(
            "The workers build %(count)s month again. Its reports show the pages of before until then.",
            "The workers build %(count)s months again. Their reports show the pages of before until then.",
            len(months),
        )
        flash(said)
        return redirect(url_for("site_data.data", site_id=site_id), 303)

    return blueprint
