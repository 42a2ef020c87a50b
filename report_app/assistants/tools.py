"""What an assistant may ask, as tools: each has a name, a description, the JSON Schema of its input, and a function.

All tools only read. They know nothing of the protocol (sdk_server.py). Callers must handle ToolError, whose message is
for the assistant: it names the field, and says what to do.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from analytics.access.api_key import READ_SCOPE
from analytics.json_schema import FLAG, TEXT, Json, an_object, list_of, one_of, text, whole
from analytics.queries.exploration_schema import LEAST_STEPS, MOST_STEPS, FunnelSchema, load_funnel
from analytics.queries.query import (
    EVENT_DIMENSIONS,
    METRICS,
    OF_GOALS,
    OF_PAGES,
    PROPS,
    SHARES,
    TIME_DIMENSIONS,
    VISIT_DIMENSIONS,
)
from analytics.queries.query_schema import FARTHEST_ROW, MOST_ROWS, OPERATORS, InvalidQuery, check_site_id, read_query
from analytics.reports.engine import Reports
from analytics.reports.results import Refused
from analytics.segments.store import SegmentLost
from analytics.sites.schema import dump_site
from analytics.sites.site import Site
from analytics.sites.store import SiteStore, UnknownSite
from analytics.unavailable import Unavailable
from report_app.errors import LOST
from report_app.explorations import funnel_json
from report_app.query import answer_json
from report_app.site_lookup import SiteLookup
from web.auth import OTHER_SITE
from web.errors import describe_unavailable

ROWS = 100  # of an answer, if the assistant does not ask for more
_NOTHING = an_object({}, additionalProperties=False)
_OF_SITE = an_object(
    {"site_id": text(1, description="The site's id, or one of its domains. list_sites has them.")},
    additionalProperties=False,
)
_SITE_IDS: Json = {
    "type": ["string", "array"],
    "items": {"type": "string"},
    "description": "The site's id, or one of its domains. A list of sites counts them as one. list_sites has them.",
}
_DATE_RANGE: Json = {
    "type": ["string", "array"],
    "items": {"type": "string"},
    "description": "day, 24h, 7d, 30d, month, 6mo, year or all; or the first and the last day, such as"
    ' ["2026-11-01", "2026-11-30"]. 7d and 30d end yesterday; day, month and year include today.',
    "examples": ["30d", ["2026-11-01", "2026-11-30"]],
}
_FILTERS: Json = {
    "type": "array",
    "items": {"type": "array", "items": {}},
    "description": f"Each is [operator, dimension, [values]], with the operators {', '.join(OPERATORS)}. Combine them"
    ' with ["and", [...]], ["or", [...]] and ["not", filter]. All of the list must match.',
    "examples": [[["is", "visit:country", ["DE", "FR"]], ["contains", "event:page", ["/blog"]]]],
}
_QUERY = an_object(
    {"site_id": _SITE_IDS, "metrics": list_of(one_of(*METRICS), minItems=1), "date_range": _DATE_RANGE},
    {
        "dimensions": list_of(TEXT, description="What to split the numbers by. list_dimensions has them."),
        "filters": _FILTERS,
        "order_by": {
            "type": "array",
            "items": {"type": "array", "items": {"type": "string"}},
            "examples": [[["visitors", "desc"]]],
        },
        "pagination": an_object({}, {"limit": whole(1, MOST_ROWS, default=ROWS), "offset": whole(0, FARTHEST_ROW)}),
        "include": an_object(
            {},
            {
                "total_rows": FLAG,
                "time_labels": FLAG | {"description": "A row for every hour, day, week or month."},
                "comparisons": an_object({"mode": one_of("previous_period", "year_over_year")}),
            },
        ),
    },
    additionalProperties=False,
)
_FUNNEL = an_object(
    {
        "site_id": _SITE_IDS,
        "date_range": _DATE_RANGE,
        "steps": list_of(
            {"type": "object"},
            minItems=LEAST_STEPS,
            maxItems=MOST_STEPS,
            description="In their order. Each has exactly one of page (* for any text), event (its type), goal (its"
            " name) and filter, and may have a label.",
            examples=[[{"page": "/pricing"}, {"goal": "Signup"}]],
        ),
    },
    {
        "filters": _FILTERS,
        "window": text(
            description="visit: all steps in one visit, which counts visits. Or the time since the first step, such as"
            " 12h or 7d, which counts visitors.",
            default=FunnelSchema().fields["window"].load_default,
        ),
    },
    additionalProperties=False,
)


class ToolError(Exception):
    """The tool cannot answer. The message is for the assistant."""


@dataclass(frozen=True, slots=True)
class Tool:
    """`answer`: takes the input and returns JSON."""

    name: str
    about: str
    schema: Json
    answer: Callable[[Mapping[str, Any]], Json]

    def run(self, given: Mapping[str, Any]) -> Json:
        """Raises ToolError."""
        with _as_tool_errors():
            return self.answer(given)


@dataclass(frozen=True, slots=True)
class Toolbox:
    """The tools for a key. `may_read`: whether the key may read a site, by its id. `key`: the key's id, or ""."""

    reports: Reports
    sites: SiteStore
    site_called: SiteLookup
    clock: Callable[[], datetime]
    may_read: Callable[[str], bool]
    key: str = ""

    def tools(self) -> Sequence[Tool]:
        return [
            Tool("list_sites", "The sites that can be read, with their domains and time zones.", _NOTHING, self._known),
            Tool("list_dimensions", "The metrics and dimensions of queries.", _NOTHING, lambda _: DIMENSIONS),
            Tool("list_goals", "The goals of a site, and the event or page of each.", _OF_SITE, self._goals),
            Tool("query", "Numbers of a site, such as visitors by page, source, country or day.", _QUERY, self._query),
            Tool("funnel", "How many visits or visitors completed each of several steps.", _FUNNEL, self._funnel),
        ]

    def _known(self, _given: Mapping[str, Any]) -> Json:
        return {"sites": [_about(site) for site in self.sites.known() if self.may_read(site.site_id)]}

    def _goals(self, given: Mapping[str, Any]) -> Json:
        (site,) = self._sites([check_site_id(given.get("site_id"))])
        return {"goals": dump_site(site)["goals"]}

    def _query(self, given: Mapping[str, Any]) -> Json:
        budget = self.reports.budget(self.key)
        pagination = given.get("pagination", {})
        if isinstance(pagination, dict):
            pagination = {"limit": ROWS} | pagination
        body = {**given, "pagination": pagination}
        query = read_query(body, self._sites, self.clock(), partial(self.reports.earliest_of, budget=budget))
        return {**answer_json(query, self.reports.answer(query, budget), body, budget)}

    def _funnel(self, given: Mapping[str, Any]) -> Json:
        budget = self.reports.budget(self.key)
        earliest = partial(self.reports.earliest_of, budget=budget)
        asked = load_funnel(dict(given), self._sites, self.clock(), earliest)
        return {**funnel_json(asked, self.reports.funnel(asked.query, asked.steps, asked.window, budget))}

    def _sites(self, names: Sequence[str]) -> list[Site]:
        """The error names a site only as the assistant did. It does not tell whether the site exists."""
        for name in names:
            if not self.may_read(self.sites.id_of(name)):
                raise ToolError(f"#/site_id: {OTHER_SITE.format(scope=READ_SCOPE, site=name)}")
        return self.site_called.each(names)


def _about(site: Site) -> Json:
    return {"site_id": site.site_id, "domains": [*site.domains], "timezone": site.zone.key}


DIMENSIONS: Json = {
    "metrics": [*METRICS],
    "dimensions": [*EVENT_DIMENSIONS, *VISIT_DIMENSIONS, *TIME_DIMENSIONS, "time"],
    "notes": [
        f"{', '.join(OF_PAGES)} need event:page as a dimension or in a filter.",
        f"{', '.join(OF_GOALS)} need event:goal as a dimension or in a filter.",
        f"{', '.join(SHARES)} needs a dimension.",
        f"{PROPS}<key> is one of the site's own properties.",
        "time chooses hour, day, week or month by the length of the period. Days are those of the site's time zone.",
        "visit_duration and time_on_page are in seconds; rates and percentages are in percent.",
    ],
}


@contextmanager
def _as_tool_errors() -> Iterator[None]:
    try:
        yield
    except (InvalidQuery, UnknownSite, Refused) as error:
        raise ToolError(str(error)) from None
    except Unavailable as error:
        raise ToolError(describe_unavailable(error)) from None
    except SegmentLost:
        raise ToolError(LOST) from None
