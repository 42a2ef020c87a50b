"""/badge/<site_id>.svg: the visitors of the last 30 days of a public site, as a small image for other pages.

Routes raise the exceptions of report_app.trouble.TROUBLES.
"""

import time
from typing import cast

from flask import Response, abort, render_template

from analytics.accounts.sharing import SharingStore
from analytics.languages import format_number, translatable
from analytics.timed_cache import TimedCache
from report_app.page_blueprint import PageBlueprint
from report_app.pages.page_reports import PageServices, SiteQuestion
from report_app.pages.page_state import PageState

BADGE_KEPT = 300  # seconds for which this process and browsers keep a badge
_MOST_KEPT = 1000  # numbers of sites
_PLAIN = PageState("30d", compare="none")
_NO_BADGE = translatable("There is no such badge. A site has a badge if it is public.")


def badge_blueprint(services: PageServices, sharing: SharingStore) -> PageBlueprint:
    blueprint = PageBlueprint("badge", __name__)
    kept: TimedCache[str, int] = TimedCache(_MOST_KEPT, BADGE_KEPT, time.monotonic)

    @blueprint.get("/badge/<path:site_id>.svg", merge_slashes=False)
    def badge(site_id: str) -> Response:
        """The image. A site that does not exist gets the answer of one that is not public."""
        site_id = services.site_called.id_of(site_id)
        if not sharing.is_public(site_id):
            abort(404, _NO_BADGE)
        visitors = format_number(kept.get(site_id, lambda: _visitors(services, site_id)))
        headers = {"Cache-Control": f"public, max-age={BADGE_KEPT}", "Vary": "Accept-Language"}
        return Response(render_template("badge.svg", visitors=visitors), headers=headers, mimetype="image/svg+xml")

    return blueprint


def _visitors(services: PageServices, site_id: str) -> int:
    site = services.site_called(site_id)
    asked = SiteQuestion(services, site, _PLAIN, services.clock().astimezone(site.zone))
    _, answer = asked.answer(asked.question | {"metrics": ["visitors"]})
    return int(cast(int, answer.rows[0].metrics[0]))
