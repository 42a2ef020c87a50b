"""The dashboard of a site: its page, the parts of the page, full lists and tables.

Raises the exceptions of report_app.trouble.TROUBLES.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from operator import attrgetter
from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit

from flask import Response, request
from werkzeug.datastructures import MultiDict

from analytics.events.account import Account
from analytics.journal.audit import balance_of_ledger
from analytics.queries.local_time import labels_of_days
from analytics.queries.query import VISIT_NUMBERS, Period, Query
from analytics.queries.query_schema import MOST_ROWS, OPERATORS, OPERATORS_OF_NUMBERS
from analytics.reports.budget import Budget
from analytics.reports.results import Answer, Refused
from report_app.metric_format import Cell, cells, columns
from report_app.page_access import address_of, viewer
from report_app.pages import panels
from report_app.pages.exploration_rows import EXPLORATIONS
from report_app.pages.hero import Hero, chart_of, grain_of, key_figures
from report_app.pages.left_out import ai_crawlers_of, count_left_out, left_out
from report_app.pages.page_reports import SiteQuestion, readable_sites
from report_app.pages.page_state import COMPARISON_NAMES, CUSTOM, PERIODS, PageState, dimension_called, read_state
from report_app.pages.panel_rows import PropertyNumbers, numbers_of, rows_of
from report_app.pages.panels import PANELS, Panel, PanelTab
from report_app.pages.rendering import show
from report_app.pages.words import (
    OPERATOR_NAMES,
    SHORT_LABELS,
    clock,
    day_of_week,
    filter_dimensions,
    period_name,
    term_words,
    value_name,
)
from report_app.pages.world import world_of
from report_app.trouble import TROUBLES, Trouble, shorter_period, trouble_of, with_retry
from report_app.url_parameters import PROP, short

_IN_THE_PAGE = 0.35  # seconds that the page waits for its figures, before they are loaded as a part
Table = tuple[Sequence[str], Iterable[Iterable[Cell]]]


def page_budget() -> Budget:
    """The time that a page waits for all that it asks."""
    return Budget(_IN_THE_PAGE)


def page(asked: SiteQuestion, budget: Budget) -> Response:
    """The page with its figures. Panels follow. Figures that take longer than the budget follow, too."""
    hero, trouble = _hero_at_once(asked, budget)
    if not trouble and _has_no_event(asked, hero):
        return show("first_event.html", **_frame(asked), **_waiting(asked))
    answer = show(
        "dashboard.html",
        **_frame(asked),
        **_in_hero(asked, hero, trouble),
        panels=PANELS.values(),
        explorations=EXPLORATIONS,
    )
    if _asks_otherwise(asked.state):
        answer.headers["HX-Trigger-After-Settle"] = "question"  # panels load again
    return at_state(answer, asked, asked.state)


def hero_part(asked: SiteQuestion) -> Response:
    """The figures. If the site has no event, the page is loaded again, and shows how to send the first one."""
    try:
        hero = _hero(asked)
        answer = show("hero.html", **_shown(asked), **_in_hero(asked, hero, None))
        if _has_no_event(asked, hero):
            answer.headers["HX-Refresh"] = "true"
        return answer
    except TROUBLES as error:
        trouble = trouble_of(error)
        answer = show("hero.html", trouble.status, **_shown(asked), **_in_hero(asked, None, trouble))
        return with_retry(answer, trouble)


def panel_part(panel: Panel, asked: SiteQuestion, opened: str | None) -> Response:
    """The content of a panel. `opened`: the tab that was clicked; the page's address then changes."""
    state = asked.state.with_tab(panel.name, opened) if opened else asked.state
    tab = panel.tab(state.tab_of(panel.name))
    rows = rows_of(tab, state, *asked.answer(panels.top_rows(asked.question, tab)))
    numbers = _numbers(asked, tab)
    answer = show(
        "panel.html",
        site=asked.site,
        state=state,
        panel=panel,
        open_tab=tab,
        rows=rows,
        numbers=numbers,
        short_labels=SHORT_LABELS,
    )
    return at_state(answer, asked, state) if opened else answer


def _numbers(asked: SiteQuestion, tab: PanelTab) -> PropertyNumbers | None:
    """The numbers of the property that the tab shows. None if it shows none, or if no event has a number."""
    if not tab.name.startswith(PROP):
        return None
    return numbers_of(*asked.answer(panels.numbers(asked.question, tab.label)))


def world_part(asked: SiteQuestion) -> Response:
    """The map."""
    world = world_of(asked.state, asked.answer(panels.by_country(asked.question))[1])
    return show("world.html", site=asked.site, world=world, hint=panels.PLACE_HINT)


def left_out_part(asked: SiteQuestion, opened: str | None) -> Response:
    state = asked.state.with_tab("left_out", opened) if opened else asked.state
    days = asked.ledger_days()
    reasons = left_out(days.values())
    by_day = [(day_of_week(day), count_left_out(days[day])) for day in sorted(days, reverse=True)]
    answer = show(
        "left_out.html",
        site=asked.site,
        state=state,
        tab=next((tab for tab in ("days", "crawlers") if tab == state.tab_of("left_out")), "reasons"),
        reasons=reasons,
        crawlers=ai_crawlers_of(days.values()),
        days=[(name, count) for name, count in by_day if count],
        total=sum(each.count for each in reasons),
    )
    return at_state(answer, asked, state) if opened else answer


def first_event_part(asked: SiteQuestion) -> Response:
    """What happened to the site's events so far. Opens the dashboard when there is one to show."""
    answer = show("first_event_part.html", **_shown(asked), **_waiting(asked))
    if asked.services.reports.has_data(asked.site_ids):
        answer.headers["HX-Refresh"] = "true"
    return answer


def suggestions_part(asked: SiteQuestion, args: Mapping[str, str]) -> Response:
    """Values of a dimension, while a value is typed into the filter builder. While a property is typed, the names of
    properties.
    """
    name, key = args.get("dimension", ""), args.get("key", "")
    if name == PROP and "value" not in args:
        names = [each for each in asked.property_names() if key.casefold() in each.casefold()]
        return show("suggestions.html", values=[(each, each) for each in names[: panels.MOST_SUGGESTED_VALUES]])
    dimension = dimension_called(name + key if name == PROP else name)
    if dimension is None:
        return show("suggestions.html", values=[])
    _, answer = asked.answer(panels.suggestions(asked.question, dimension, args.get("value", "")))
    values = [(row.dimensions[0], value_name(dimension, row.dimensions[0])) for row in answer.rows]
    return show("suggestions.html", values=values)


def list_page(panel: Panel, asked: SiteQuestion) -> Response:
    tab = panel.tab(asked.state.tab_of(panel.name))
    query, answer = asked.answer(panels.full_list(asked.question, tab, asked.state))
    rows = rows_of(tab, asked.state, query, answer)
    return show("list.html", **_frame(asked), panel=panel, open_tab=tab, rows=rows, first=query.offset + 1)


def chart_table(asked: SiteQuestion) -> Table:
    """The chart as a table."""
    query, answer = _over_time(asked, asked.period())
    before = [f"{asked.state.figure}_before"] if query.compare_with else []
    days = answer.imports.days if answer.imports else ()
    imported = labels_of_days(days, query.grain or "day")
    rows = (
        [row.dimensions[0], *row.metrics, *((row.before or [0]) if before else []),
         *([int(row.dimensions[0] in imported)] if days else [])]
        for row in answer.rows
    )  # fmt: skip
    return [query.dimensions[0], *query.metrics, *before, *(["imported"] if days else [])], rows


def panel_table(panel: Panel, asked: SiteQuestion) -> Table:
    """All rows of a panel as a table."""
    tab = panel.tab(asked.state.tab_of(panel.name))
    query, answer = asked.answer(panels.full_list(asked.question, tab, asked.state, limit=MOST_ROWS))
    names = [tab.dimension, *(column for metric in query.metrics for column in columns(metric))]
    return names, (_cells(query, row.dimensions[0], row.metrics) for row in answer.rows)


def left_out_table(asked: SiteQuestion) -> Table:
    """The events by reason, or by UTC day if the panel shows days."""
    days = asked.ledger_days()
    if asked.state.tab_of("left_out") == "days":
        return ["day", "events"], ([day.isoformat(), count_left_out(days[day])] for day in sorted(days))
    return ["reason", "events"], ([each.name, each.count] for each in left_out(days.values(), by_crawler=True))


def _cells(query: Query, value: str, metrics: Iterable[Any]) -> Iterator[Cell]:
    yield value
    for name, metric in zip(query.metrics, metrics, strict=True):
        yield from cells(name, metric)


def _in_hero(asked: SiteQuestion, hero: Hero | None, trouble: Trouble | None) -> dict[str, Any]:
    again = f"/parts/hero/{quote(asked.site.site_id)}?{asked.state.as_query()}"
    shorter = shorter_period(asked.site.site_id, asked.state)
    return {"hero": hero, "trouble": trouble, "again": again, "replaces": "#hero", "shorter": shorter}


def _has_no_event(asked: SiteQuestion, hero: Hero | None) -> bool:
    """Whether the site has no event, as far as MongoDB tells. `hero` is None if the figures are not ready."""
    try:
        is_empty = hero is None or hero.is_empty
        return is_empty and not asked.state.filters and not asked.services.reports.has_data(asked.site_ids)
    except TROUBLES:
        return False


def _hero_at_once(asked: SiteQuestion, budget: Budget) -> tuple[Hero | None, Trouble | None]:
    """The figures, or neither if they are not ready within the budget, or the trouble that they have."""
    try:
        return _hero(asked, budget), None
    except Refused:
        return None, None
    except TROUBLES as error:
        return None, trouble_of(error)


def _hero(asked: SiteQuestion, budget: Budget | None = None) -> Hero:
    figures = asked.answer(panels.figures(asked.question), budget)
    query, answer = _over_time(asked, figures[0].period, budget)
    first, last = query.period.first_day(), query.period.last_day()
    lists = (asked.services.annotations.list(site_id, first, last) for site_id in asked.site_ids)
    annotations = sorted(chain.from_iterable(lists), key=attrgetter("day"))
    chart = chart_of(asked.state, query, answer, asked.now, annotations)
    notes = [(day_of_week(each.day), each) for each in annotations]
    return Hero(key_figures(*figures), chart, answer.as_of or figures[1].as_of, notes, figures[1].imports)


def _over_time(asked: SiteQuestion, period: Period, budget: Budget | None = None) -> tuple[Query, Answer]:
    grain = grain_of(asked.state, period)
    return asked.answer(panels.over_time(asked.question, asked.state, grain), budget)


def _frame(asked: SiteQuestion) -> dict[str, Any]:
    """What a whole page shows around its content."""
    state = asked.state
    saved = {str(each.id): each.name for each in asked.site.saved_filters}
    called = period_name(asked.period()) if state.period == CUSTOM else PERIODS[state.period][0]
    return _shown(asked) | {
        "viewer": viewer(),
        "sites": readable_sites(asked.services),
        "periods": PERIODS,
        "period": called,
        "comparisons": COMPARISON_NAMES,
        "chips": [[term_words(term, saved) for term in each] for each in state.filters],
        "dimensions": filter_dimensions(),
        "operators": OPERATOR_NAMES,
        "operators_of_texts": OPERATORS,
        "operators_of_numbers": OPERATORS_OF_NUMBERS,
        "numbers": [short(dimension) for dimension in VISIT_NUMBERS],
        "today": asked.now.date().isoformat(),
    }


def _shown(asked: SiteQuestion) -> dict[str, Any]:
    return {
        "site": asked.site,
        "state": asked.state,
        "shown_sites": " + ".join(asked.site_ids),
        "may_edit": asked.may_edit,
        "today": asked.now.date().isoformat(),
        "up_to": clock(asked.now, asked.site.zone),
        "shown_time": lambda moment: clock(moment, asked.site.zone),
    }


def _waiting(asked: SiteQuestion) -> dict[str, Any]:
    lately = asked.ledger_lately()
    return {
        "collector": address_of(asked.services.ingestion_port),
        "arrived": balance_of_ledger(Account(asked.site.site_id, asked.now.date()), lately).waiting,
        "reasons": left_out([lately]),
    }


def at_state(answer: Response, asked: SiteQuestion, state: PageState) -> Response:
    """The answer, after which the browser's address is that of the state."""
    answer.headers["HX-Push-Url"] = f"/site/{quote(asked.site.site_id)}?{state.as_query()}"
    return answer


def _asks_otherwise(state: PageState) -> bool:
    """Whether the browser's page has panels that answer another question."""
    shown = urlsplit(request.headers.get("HX-Current-URL", ""))
    before = MultiDict(parse_qsl(shown.query, keep_blank_values=True))
    return not state.asks_as(read_state(before, state.period))
