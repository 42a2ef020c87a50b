"""What the dashboard asks: the figures, the chart and each panel, as bodies of POST /api/v2/query. Pure.

A body is the state's question (page_state.py) with metrics, dimensions and more filters. The pages and the API
answer it with the same code.
"""

from dataclasses import dataclass
from typing import Any

from analytics.languages import ENGLISH, spoken_language
from analytics.queries.query import PROPS, missing
from report_app.pages.page_state import FIGURES, PageState
from report_app.pages.words import countries_called
from report_app.texts import lazy, within_sentence
from report_app.url_parameters import PROP

Body = dict[str, Any]

PANEL_ROWS = 6  # of a panel
FUNCTIONS_SHOWN = ("sum", "average", "median", "p75", "p90")
LIST_ROWS = 50  # of one page of a full list
MOST_SUGGESTED_VALUES = 12
MOST_COUNTRIES = 500  # of the map; more codes than countries have
_OF_GOAL = ("events", "conversion_rate")
_OF_VISIT = ("visits", "bounce_rate", "visit_duration")
_OF_EVENT = ("events",)
_OF_READING = ("time_on_page", "scroll_depth")


@dataclass(frozen=True, slots=True)
class PanelTab:
    """A view of a panel: the visitors by `dimension`. `columns` are the metrics beside them. `more` are the metrics
    that only the full list shows, and `beside` are those that the panel also shows, beside the name. `filters` select
    the events that it is about. `searched` is the dimension that a search looks into, if it is not `dimension`.
    `is_plain`: a row is no filter of the page. `many`: see `rows`.
    """

    name: str
    label: str
    dimension: str
    columns: tuple[str, ...] = ("percentage",)
    more: tuple[str, ...] = _OF_VISIT
    filters: tuple[Any, ...] = ()
    searched: str = ""
    hint: str = ""
    is_plain: bool = False
    many: str = ""
    beside: tuple[str, ...] = ()

    @property
    def rows(self) -> str:
        """What its rows are called within a sentence."""
        return self.many or within_sentence(self.label)

    @property
    def metrics(self) -> list[str]:
        return ["visitors", *self.columns]


@dataclass(frozen=True, slots=True)
class Panel:
    """`tabs` are shown in the panel's head, `further` in a menu behind them."""

    name: str
    title: str
    tabs: tuple[PanelTab, ...]
    further: tuple[PanelTab, ...] = ()

    def tab(self, name: str | None) -> PanelTab:
        """The tab with this name, or the first one. Every property has a tab, called prop.<key>."""
        if self.name == "goals" and name and name.startswith(PROP) and name != PROP:
            return property_tab(name.removeprefix(PROP))
        return next((tab for tab in (*self.tabs, *self.further) if tab.name == name), self.tabs[0])


def property_tab(key: str) -> PanelTab:
    return PanelTab(PROP + key, key, PROPS + key, more=_OF_EVENT, filters=(_has(PROPS + key),))


def _has(dimension: str) -> list[Any]:
    return ["is_not", dimension, [missing(dimension)]]


def _is(dimension: str, *values: str) -> list[Any]:
    return ["is", dimension, list(values)]


def _visit(name: str, label: str) -> PanelTab:
    return PanelTab(name, label, f"visit:{name}")


def _utm(name: str, label: str) -> PanelTab:
    dimension = f"visit:utm_{name}"
    hint = lazy("Links to the site with %(parameter)s=... fill this list.", parameter=f"utm_{name}")
    return PanelTab(f"utm_{name}", label, dimension, filters=(_has(dimension),), hint=hint, many=_UTMS[name])


_UTMS = {
    "campaign": lazy("campaigns"),
    "source": lazy("UTM sources"),
    "medium": lazy("UTM media"),
    "content": lazy("UTM contents"),
    "term": lazy("UTM terms"),
}
_PAGE_HINT = lazy("Pageviews with a path fill this list.")
PLACE_HINT = lazy("Places come from GEOIP_DB, a CDN's headers, or the fields of the event.")

PAGES_PANEL = Panel(
    "pages",
    lazy("Pages"),
    (
        PanelTab("top", lazy("Top"), "event:page", more=("pageviews", *_OF_READING),
                 filters=(_has("event:page"),), hint=_PAGE_HINT, many=lazy("pages")),
        PanelTab("entry", lazy("Entry"), "visit:entry_page", hint=_PAGE_HINT, many=lazy("entry pages")),
        PanelTab("exit", lazy("Exit"), "visit:exit_page", hint=_PAGE_HINT, many=lazy("exit pages")),
        PanelTab("engagement", lazy("Engagement"), "event:page", _OF_READING, more=("pageviews",),
                 filters=(_has("event:page"),), hint=_PAGE_HINT, many=lazy("pages")),
    ),
    (
        PanelTab("hosts", lazy("Hosts"), "event:hostname", more=("pageviews",)),
        PanelTab("missing", lazy("Not found"), "event:page", more=_OF_EVENT, many=lazy("missing pages"),
                 filters=(_is("event:name", "404"),),
                 hint=lazy("Send an event of the type 404 from the page that is shown for a missing page.")),
    ),
)  # fmt: skip
SOURCES_PANEL = Panel(
    "sources",
    lazy("Sources"),
    (_visit("channel", lazy("Channels")), _visit("source", lazy("Sources")), _utm("campaign", lazy("Campaigns"))),
    (
        PanelTab("referrer", lazy("Referrers"), "visit:referrer", filters=(_has("visit:referrer"),)),
        _utm("source", lazy("UTM source")),
        _utm("medium", lazy("UTM medium")),
        _utm("content", lazy("UTM content")),
        _utm("term", lazy("UTM term")),
    ),
)
PLACES_PANEL = Panel(
    "places",
    lazy("Places"),
    (
        PanelTab("country", lazy("Countries"), "visit:country", searched="visit:country_name", hint=PLACE_HINT),
        PanelTab("region", lazy("Regions"), "visit:region", searched="visit:region_name", hint=PLACE_HINT),
        PanelTab("city", lazy("Cities"), "visit:city", hint=PLACE_HINT),
    ),
    (_visit("language", lazy("Languages")),),
)
DEVICES_PANEL = Panel(
    "devices",
    lazy("Devices"),
    (_visit("browser", lazy("Browsers")), _visit("os", lazy("Systems")), _visit("device", lazy("Types"))),
    (
        _visit("screen", lazy("Screens")),
        _visit("browser_version", lazy("Browser versions")),
        _visit("os_version", lazy("System versions")),
    ),
)
GOALS_PANEL = Panel(
    "goals",
    lazy("Goals"),
    (
        PanelTab("goal", lazy("Conversions"), "event:goal", ("conversion_rate",), ("events", "total_revenue"),
                 beside=("total_revenue",),
                 hint=lazy("Goals of the site fill this list. They are a setting of the site.")),
        PanelTab("event", lazy("Events"), "event:name", more=_OF_EVENT, hint=lazy("Custom events fill this list."),
                 filters=(["is_not", "event:name", ["pageview", "engagement"]],)),
    ),
    (
        PanelTab("outbound", lazy("Outbound links"), "event:props:url", more=_OF_EVENT, is_plain=True,
                 filters=(_is("event:name", "Outbound Link: Click"),),
                 hint=lazy("The tracker counts clicks on links to other hosts.")),
        PanelTab("download", lazy("Downloads"), "event:props:url", more=_OF_EVENT, is_plain=True,
                 filters=(_is("event:name", "File Download"),),
                 hint=lazy("The tracker counts clicks on links to files.")),
    ),
)  # fmt: skip
PANELS = {panel.name: panel for panel in (PAGES_PANEL, SOURCES_PANEL, PLACES_PANEL, DEVICES_PANEL, GOALS_PANEL)}


def figures(question: Body) -> Body:
    """The key figures."""
    return question | {"metrics": list(FIGURES)}


def over_time(question: Body, state: PageState, grain: str) -> Body:
    """The selected figure by time. Every bucket has a row."""
    include = question["include"] | {"time_labels": True}
    return question | {"metrics": [state.figure], "dimensions": [f"time:{grain}"], "include": include}


def top_rows(question: Body, tab: PanelTab) -> Body:
    """The rows of a panel."""
    return _by(question, tab, [*tab.metrics, *tab.beside], limit=PANEL_ROWS)


def by_country(question: Body) -> Body:
    """The visitors of every country, for the map."""
    return _by(question, PLACES_PANEL.tabs[0], ["visitors"], limit=MOST_COUNTRIES)


def numbers(question: Body, key: str) -> Body:
    """What events have as a property in numbers: how many events, and the functions of FUNCTIONS_SHOWN."""
    metrics = [f"{function}:props:{key}" for function in ("count", *FUNCTIONS_SHOWN)]
    return _without_comparison(question) | {"metrics": metrics}


def full_list(question: Body, tab: PanelTab, state: PageState, limit: int = LIST_ROWS) -> Body:
    """One page of all rows, or of those that contain the searched text."""
    found = [_searching(tab, state.search)] if state.search else []
    offset = (state.page - 1) * limit
    return _by(question, tab, [*tab.metrics, *tab.more], found, limit=limit, offset=offset)


def _searching(tab: PanelTab, text: str) -> list[Any]:
    """The filter of a search. Stored names of countries are English, so other languages search their own."""
    if tab.dimension == "visit:country" and spoken_language() != ENGLISH and (codes := countries_called(text)):
        return _is(tab.dimension, *codes)
    return ["contains", tab.searched or tab.dimension, [text], {"case_sensitive": False}]


def suggestions(question: Body, dimension: str, text: str) -> Body:
    """The most frequent values of a dimension that contain the text."""
    by = PanelTab(dimension, dimension, dimension)
    found = [["contains", dimension, [text], {"case_sensitive": False}]] if text else []
    return _by(question | {"filters": []}, by, ["visitors"], found, limit=MOST_SUGGESTED_VALUES)


def _by(question: Body, tab: PanelTab, metrics: list[str], found: list[Any] | None = None, **pagination: int) -> Body:
    """A question by the dimension of a tab, without comparison."""
    alone = _without_comparison(question)
    return alone | {
        "metrics": metrics,
        "dimensions": [tab.dimension],
        "filters": [*question["filters"], *tab.filters, *(found or [])],
        "include": alone["include"] | {"total_rows": True},
        "pagination": pagination,
    }


def _without_comparison(question: Body) -> Body:
    return question | {"include": {name: value for name, value in question["include"].items() if name != "comparisons"}}


# The overview of all sites


def last_days(site_id: str, first: str, last: str) -> Body:
    """The visitors and pageviews of a site by day."""
    return {
        "site_id": site_id,
        "metrics": ["visitors", "pageviews"],
        "date_range": [first, last],
        "dimensions": ["time:day"],
        "include": {"imports": True, "time_labels": True},
    }
