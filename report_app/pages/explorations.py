"""The panels of a dashboard that follow visitors: saved funnels, retention, and journeys through a page.

Raises the exceptions of report_app.trouble.TROUBLES.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, TypeVar

from flask import Response, abort
from werkzeug.datastructures import MultiDict
from werkzeug.wrappers import Response as BaseResponse

from analytics.dashboards.funnels import LONGEST_FUNNEL_NAME, MOST_FUNNELS, SavedFunnel, TooManyFunnels
from analytics.languages import gettext
from analytics.queries.exploration_schema import (
    LEAST_STEPS,
    MOST_STEPS,
    Funnel,
    load_funnel,
    load_journeys,
    load_retention,
)
from analytics.queries.query import Grain
from analytics.queries.query_schema import Earliest, InvalidQuery, SitesCalled
from analytics.reports.results import Cohort, Journeys
from report_app.pages import panels
from report_app.pages.dashboard import Table, at_state
from report_app.pages.exploration_rows import (
    END_OF_VISIT,
    EXPLORATIONS,
    NEW_VISIT,
    cohort_rows,
    funnel_steps,
    journey_rows,
    retention_grains,
    usual_grain,
)
from report_app.pages.page_reports import SiteQuestion, back_to, check_editor
from report_app.pages.rendering import show
from report_app.texts import lazy

_JOURNEY_PAGES = 7  # in each direction
_MOST_JOURNEY_PAGES = 1000  # of a table
STEP_FIELDS = {"page": lazy("Page"), "event": lazy("Event"), "goal": lazy("Goal")}
WINDOWS = {
    "visit": lazy("within one visit"),
    "1d": lazy("within a day"),
    "7d": lazy("within 7 days"),
    "30d": lazy("within 30 days"),
}

T = TypeVar("T")


def exploration_part(name: str, asked: SiteQuestion, opened: str | None) -> Response:
    """The content of a panel of EXPLORATIONS. `opened`: see panel_part."""
    parts = {"funnel": _funnel_part, "retention": _retention_part, "journeys": _journeys_part}
    part = parts.get(name) or abort(404, gettext("There is no such panel."))
    if not opened:
        return part(asked)
    state = asked.state.with_tab(name, opened)
    return at_state(part(replace(asked, state=state)), asked, state)


def funnel_table(asked: SiteQuestion) -> Table:
    _, chosen = _chosen_funnel(asked)
    labels, counts, _ = _count(asked, chosen) if chosen else ((), (), None)
    return ["step", "count"], zip(labels, counts, strict=True)


def retention_table(asked: SiteQuestion) -> Table:
    _, grain, cohorts = _retention(asked)
    names = ["cohort", *(f"{grain}_{n}" for n in range(_count_grains(cohorts)))]
    return names, ([each.label, *each.active] for each in cohorts)


def journeys_table(asked: SiteQuestion) -> Table:
    _, found = _journeys(asked, _MOST_JOURNEY_PAGES)
    ways = (("before", found.preceding), ("after", found.following))
    return ["way", "page", "visits"], ([way, page or "", n] for way, pages in ways for page, n in pages)


def save_funnel(asked: SiteQuestion, form: MultiDict[str, str]) -> BaseResponse:
    """Saves the funnel of the form, and opens it."""
    check_editor(asked, gettext("Only an owner or an editor of this site may change its funnels."))
    kinds, values = form.getlist("kind"), map(str.strip, form.getlist("value"))
    steps = tuple({kind: value} for kind, value in zip(kinds, values, strict=False) if value)
    name = form.get("name", "").strip()
    if not 0 < len(name) <= LONGEST_FUNNEL_NAME:
        abort(400, gettext("Give the funnel a name of 1 to %(most)d characters.", most=LONGEST_FUNNEL_NAME))
    if not LEAST_STEPS <= len(steps) <= MOST_STEPS:
        abort(400, gettext("A funnel has %(least)d to %(most)d steps.", least=LEAST_STEPS, most=MOST_STEPS))
    funnel = SavedFunnel(asked.site.site_id, name, steps, form.get("window", "visit"))
    _explore(asked, load_funnel, **_body(funnel))  # raises if a step is not valid
    try:
        asked.services.funnels.save(funnel)
    except TooManyFunnels:
        abort(400, gettext("A site has at most %(most)d funnels. Remove one first.", most=MOST_FUNNELS))
    return back_to(asked, asked.state.with_tab("funnel", funnel.id), "panel-funnel")


def remove_funnel(asked: SiteQuestion, funnel_id: str) -> BaseResponse:
    check_editor(asked, gettext("Only an owner or an editor of this site may change its funnels."))
    asked.services.funnels.remove(asked.site.site_id, funnel_id)
    return back_to(asked, asked.state.with_tab("funnel", ""), "panel-funnel")


def _explore(asked: SiteQuestion, load: Callable[[object, SitesCalled, datetime, Earliest], T], **body: Any) -> T:
    question = {name: asked.question[name] for name in ("site_id", "date_range", "filters")}
    return load(question | body, lambda _: [asked.site, *asked.others], asked.now, lambda _: asked.earliest())


# Funnels


def _funnel_part(asked: SiteQuestion) -> Response:
    saved, chosen = _chosen_funnel(asked)
    steps, unit, trouble = [], gettext("Visits"), ""
    if chosen:
        try:
            labels, counts, window = _count(asked, chosen)
            steps, unit = (
                funnel_steps([*map(gettext, labels)], counts),
                gettext("Visitors") if window else gettext("Visits"),
            )
        except InvalidQuery as error:  # a goal that the site has no more; the funnel can still be removed
            trouble = gettext(error.message)
    return _panel(
        asked, "funnel", funnels=saved, chosen=chosen, steps=steps, unit=unit, trouble=trouble,
        may_edit=asked.may_edit, kinds=STEP_FIELDS, windows=WINDOWS, most_steps=MOST_STEPS,
        longest_name=LONGEST_FUNNEL_NAME,
    )  # fmt: skip


def _chosen_funnel(asked: SiteQuestion) -> tuple[Sequence[SavedFunnel], SavedFunnel | None]:
    """All funnels of the site, and the one that the state names, or else the first."""
    saved = asked.services.funnels.list(asked.site.site_id)
    named = asked.state.tab_of("funnel")
    return saved, next((each for each in saved if each.id == named), saved[0] if saved else None)


def _count(asked: SiteQuestion, saved: SavedFunnel) -> tuple[Sequence[str], Sequence[int], object]:
    funnel: Funnel = _explore(asked, load_funnel, **_body(saved))
    counts = asked.services.reports.funnel(funnel.query, funnel.steps, funnel.window)
    return funnel.labels, counts, funnel.window


def _body(funnel: SavedFunnel) -> dict[str, Any]:
    return {"steps": list(funnel.steps), "window": funnel.window}


# Retention


def _retention_part(asked: SiteQuestion) -> Response:
    grains, grain, cohorts = _retention(asked)
    rows = cohort_rows(cohorts, grain)
    return _panel(asked, "retention", grains=grains, grain=grain, rows=rows, count=_count_grains(cohorts))


def _retention(asked: SiteQuestion) -> tuple[Sequence[Grain], Grain, Sequence[Cohort]]:
    period = asked.period()
    grains, named = retention_grains(period), asked.state.tab_of("retention")
    grain = next((each for each in grains if each == named), usual_grain(period))
    loaded = _explore(asked, load_retention, grain=grain)
    return grains, grain, asked.services.reports.retention(loaded.query, loaded.grain)


def _count_grains(cohorts: Sequence[Cohort]) -> int:
    return max((len(each.active) for each in cohorts), default=0)


# Journeys


def _journeys_part(asked: SiteQuestion) -> Response:
    page, found = _journeys(asked, _JOURNEY_PAGES)
    before, after = journey_rows(found.preceding, NEW_VISIT), journey_rows(found.following, END_OF_VISIT)
    return _panel(asked, "journeys", page=page, before=before, after=after)


def _journeys(asked: SiteQuestion, limit: int) -> tuple[str, Journeys]:
    """The page that the state names, or else the one with most visitors, and what came before and after it."""
    page = asked.state.tab_of("journeys") or _top_page(asked)
    loaded = _explore(asked, load_journeys, page=page, limit=limit)
    return page, asked.services.reports.journeys(loaded.query, loaded.page)


def _top_page(asked: SiteQuestion) -> str:
    _, answer = asked.answer(panels.suggestions(asked.question, "event:page", ""))
    return next((row.dimensions[0] for row in answer.rows), "/")


def _panel(asked: SiteQuestion, name: str, **content: Any) -> Response:
    return show(f"{name}.html", site=asked.site, state=asked.state, panel=name, title=EXPLORATIONS[name], **content)
