"""The routes of pages and of their parts.

`GET /` and `GET /site/<site_id>` are pages. Routes below /parts answer with a part of a page, which htmx puts in place.
A site_id may hold slashes, so it is the end of each path. The query string is the state of the page (page_state.py).
"""

from urllib.parse import urlencode

from flask import Response, abort, redirect, request
from werkzeug.datastructures import MultiDict
from werkzeug.wrappers import Response as BaseResponse

from analytics.languages import gettext
from analytics.sites.schema import LARGEST_SAVED_ID
from report_app.csv_output import as_csv
from report_app.page_access import site_path, viewer
from report_app.page_blueprint import PageBlueprint
from report_app.pages import annotations, dashboard, explorations, overview, saved_filters
from report_app.pages.page_reports import ANY_PERIOD, PageServices, SiteQuestion, ask_about
from report_app.pages.page_state import OTHER_SITES
from report_app.pages.panels import PANELS, Panel
from report_app.pages.right_now import live_part, now_page, now_part
from report_app.pages.visitors import visitors_page
from report_app.url_parameters import PROP


def pages_blueprint(services: PageServices) -> PageBlueprint:
    blueprint = PageBlueprint("pages", __name__)

    def asked(site_id: str) -> SiteQuestion:
        return ask_about(services, site_id, request.args)

    def asked_at_any_time(site_id: str) -> SiteQuestion:
        return ask_about(services, site_id, ANY_PERIOD | request.args)

    @blueprint.get("/sites")
    def several_sites() -> BaseResponse:
        """The form that chooses sites leads to the page that shows them as one."""
        viewer()
        return redirect(_page_of_sites(request.args), 303)

    @blueprint.get("/site/<path:site_id>", merge_slashes=False)
    def site(site_id: str) -> BaseResponse:
        """The dashboard. A form of the filter builder leads to the address of the state that it makes."""
        budget = dashboard.page_budget()
        question = ask_about(services, site_id, request.args, budget)
        if "dimension" in request.args:
            return redirect(f"{request.path}?{question.state.as_query()}", 303)
        return dashboard.page(question, budget)

    @blueprint.get("/parts/hero/<path:site_id>", merge_slashes=False)
    def hero(site_id: str) -> Response:
        return dashboard.hero_part(asked(site_id))

    @blueprint.get("/parts/panel/<name>/<path:site_id>", merge_slashes=False)
    def panel(name: str, site_id: str) -> Response:
        return dashboard.panel_part(_panel(name), asked(site_id), _opened_tab())

    @blueprint.get("/parts/world/<path:site_id>", merge_slashes=False)
    def world(site_id: str) -> Response:
        return dashboard.world_part(asked(site_id))

    @blueprint.get("/parts/left-out/<path:site_id>", merge_slashes=False)
    def left_out(site_id: str) -> Response:
        return dashboard.left_out_part(asked(site_id), request.args.get("tab"))

    @blueprint.get("/parts/explore/<name>/<path:site_id>", merge_slashes=False)
    def exploration(name: str, site_id: str) -> Response:
        return explorations.exploration_part(name, asked(site_id), request.args.get("tab"))

    @blueprint.post("/save-funnel/<path:site_id>", merge_slashes=False)
    def save_funnel(site_id: str) -> BaseResponse:
        return explorations.save_funnel(asked(site_id), request.form)

    @blueprint.post("/remove-funnel/<funnel_id>/<path:site_id>", merge_slashes=False)
    def remove_funnel(funnel_id: str, site_id: str) -> BaseResponse:
        return explorations.remove_funnel(asked(site_id), funnel_id)

    @blueprint.post("/save-filter/<path:site_id>", merge_slashes=False)
    def save_filter(site_id: str) -> BaseResponse:
        return saved_filters.save_filter(asked(site_id), request.form.get("name", ""))

    @blueprint.post(f"/remove-filter/<int(max={LARGEST_SAVED_ID}):filter_id>/<path:site_id>", merge_slashes=False)
    def remove_filter(filter_id: int, site_id: str) -> BaseResponse:
        return saved_filters.remove_filter(asked(site_id), filter_id)

    @blueprint.post("/annotate/<path:site_id>", merge_slashes=False)
    def annotate(site_id: str) -> BaseResponse:
        return annotations.add_annotation(asked(site_id), request.form)

    @blueprint.post("/remove-annotation/<annotation_id>/<path:site_id>", merge_slashes=False)
    def remove_annotation(annotation_id: str, site_id: str) -> BaseResponse:
        return annotations.remove_annotation(asked(site_id), annotation_id)

    @blueprint.get("/parts/live/<path:site_id>", merge_slashes=False)
    def live(site_id: str) -> Response:
        return live_part(asked_at_any_time(site_id))

    @blueprint.get("/now/<path:site_id>", merge_slashes=False)
    def now(site_id: str) -> Response:
        return now_page(asked_at_any_time(site_id))

    @blueprint.get("/parts/now/<path:site_id>", merge_slashes=False)
    def lately(site_id: str) -> Response:
        return now_part(asked_at_any_time(site_id))

    @blueprint.get("/parts/first-event/<path:site_id>", merge_slashes=False)
    def first_event(site_id: str) -> Response:
        return dashboard.first_event_part(asked_at_any_time(site_id))

    @blueprint.get("/parts/suggestions/<path:site_id>", merge_slashes=False)
    def suggestions(site_id: str) -> Response:
        return dashboard.suggestions_part(asked(site_id), request.args)

    @blueprint.get("/parts/card/<path:site_id>", merge_slashes=False)
    def card(site_id: str) -> Response:
        return overview.card_part(ask_about(services, site_id))

    @blueprint.get("/visitors/<path:site_id>", merge_slashes=False)
    def visitors(site_id: str) -> Response:
        return visitors_page(asked(site_id), request.args.get("visitor", ""))

    @blueprint.get("/list/<name>/<path:site_id>", merge_slashes=False)
    def full_list(name: str, site_id: str) -> Response:
        return dashboard.list_page(_panel(name), asked(site_id))

    @blueprint.get("/csv/chart/<path:site_id>", merge_slashes=False)
    def chart_csv(site_id: str) -> Response:
        return as_csv(*dashboard.chart_table(asked(site_id)))

    @blueprint.get("/csv/left-out/<path:site_id>", merge_slashes=False)
    def left_out_csv(site_id: str) -> Response:
        return as_csv(*dashboard.left_out_table(asked(site_id)))

    @blueprint.get("/csv/funnel/<path:site_id>", merge_slashes=False)
    def funnel_csv(site_id: str) -> Response:
        return as_csv(*explorations.funnel_table(asked(site_id)))

    @blueprint.get("/csv/retention/<path:site_id>", merge_slashes=False)
    def retention_csv(site_id: str) -> Response:
        return as_csv(*explorations.retention_table(asked(site_id)))

    @blueprint.get("/csv/journeys/<path:site_id>", merge_slashes=False)
    def journeys_csv(site_id: str) -> Response:
        return as_csv(*explorations.journeys_table(asked(site_id)))

    @blueprint.get("/csv/<name>/<path:site_id>", merge_slashes=False)
    def panel_csv(name: str, site_id: str) -> Response:
        return as_csv(*dashboard.panel_table(_panel(name), asked(site_id)))

    return blueprint


def _page_of_sites(args: MultiDict[str, str]) -> str:
    """The address of the page of the sites that a form chose. The other parameters stay."""
    first, *others = args.getlist(OTHER_SITES) or [""]
    kept = [(name, value) for name, value in args.items(multi=True) if name != OTHER_SITES]
    query = urlencode([*kept, *((OTHER_SITES, each) for each in others)])
    return f"{site_path(first)}?{query}" if first else "/"


def _panel(name: str) -> Panel:
    return PANELS.get(name) or abort(404, gettext("There is no such panel."))


def _opened_tab() -> str | None:
    """The tab that was clicked, or the property whose name was sent."""
    key = request.args.get("key")
    return f"{PROP}{key}" if key else request.args.get("tab")
