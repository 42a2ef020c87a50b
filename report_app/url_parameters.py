"""Reads a query from the parameters of a URL into the JSON of POST /api/v2/query.

An example is `?site_id=shop&country=DE&country=FR&page=/pricing&device!=Mobile&prop.plan=pro`. A repeated name means
"or", different names mean "and", and "!" at the end of a name means "not". Callers must handle BadRequest, which names
the invalid parameter. UrlQuery.naming_parameters does the same for errors of the later reading of the query.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from werkzeug.datastructures import MultiDict

from analytics.json_schema import Json, any_of, list_of, one_of, text, whole
from analytics.queries.periods import ONE_DAY
from analytics.queries.query import EVENT_DIMENSIONS, PROPS, VISIT_DIMENSIONS, Query
from analytics.queries.query_schema import (
    FARTHEST_ROW,
    MOST_DIMENSIONS,
    MOST_ROWS,
    MOST_SITES,
    InvalidQuery,
    check_site_id,
    check_site_ids,
    load_query,
)
from analytics.sites.site import Site
from analytics.suggestion import did_you_mean
from report_app.query_json_schema import CODE, DATE_TEXT, PERIOD_NAME, SITE_ID, VALUE, metric, metric_names
from web.errors import BadRequest
from web.openapi import parameter

# Dimensions by their names without the prefix. All short names differ.
SHORT_DIMENSIONS = {dimension.partition(":")[2]: dimension for dimension in (*EVENT_DIMENSIONS, *VISIT_DIMENSIONS)}
SITE_NAME, PROP = "site_id", "prop."
PERIOD = ("period", "from", "to")
_DEFAULT_DAYS = 30  # up to and including today
PAGING = ("limit", "offset")
FILTERS = "filters"  # JSON, with the filters of POST /api/v2/query

# The parameters as the description has them.
SITE_PARAMETER = parameter("site_id", SITE_ID, "The id of the site, or one of its domains.", required=True)
SITES_PARAMETER = parameter(
    SITE_NAME,
    list_of(SITE_ID, minItems=1, maxItems=MOST_SITES, uniqueItems=True),
    "The id of the site, or one of its domains. Several parameters with different sites count the sites as one. They "
    "must have the same time zone.",
    required=True,
    style="form",
    explode=True,
)
FROM_TO = [
    parameter("from", DATE_TEXT, "The first day. Send it instead of `period`."),
    parameter("to", DATE_TEXT, "The last day. The default is today."),
]
PERIOD_PARAMETERS = [
    parameter("period", PERIOD_NAME, "The default is the last 30 days, including today."),
    *FROM_TO,
]
_COMMAS: Json = {"style": "form", "explode": False}
_PROP_BEGINS = PROP.replace(".", "[.]")
CHARACTERS_IN_A_LIST = r"[^,\s\u0000]"  # of a name in a list
_NAMES = any_of(one_of(*SHORT_DIMENSIONS), text(pattern=rf"^{_PROP_BEGINS}{CHARACTERS_IN_A_LIST}+$"))
_OPPOSITES = [f"{name}!" for name in SHORT_DIMENSIONS if name != "goal"]
FILTER_PARAMETERS = parameter(
    "filters",
    {
        "type": "object",
        "properties": {"country": CODE, "country!": CODE},
        "propertyNames": any_of(
            one_of(*SHORT_DIMENSIONS, *_OPPOSITES), text(pattern=rf"^{_PROP_BEGINS}[^!\u0000]+!?$")
        ),
        "additionalProperties": VALUE,
    },
    "Each dimension is a separate parameter, for example `country=DE`. `!` at the end of its name means `not`. The "
    "same parameter twice means `or`. Different parameters mean `and`. `goal` takes a goal of the site. There is no "
    "`goal!`.",
    style="form",
    explode=True,
)
TABLE_PARAMETERS = [
    SITES_PARAMETER,
    *PERIOD_PARAMETERS,
    parameter("metrics", metric_names(metric(CHARACTERS_IN_A_LIST)), **_COMMAS),
    parameter("by", list_of(_NAMES, maxItems=MOST_DIMENSIONS - 1, uniqueItems=True), "Dimensions.", **_COMMAS),
    parameter("limit", whole(1, MOST_ROWS)),
    parameter("offset", whole(0, FARTHEST_ROW)),
]


@dataclass(frozen=True, slots=True)
class UrlQuery:
    """`body`: the body of POST /api/v2/query without the date range. `filtered_by`: for each filter the parameter that
    it came from. `period`: the parameters of PERIOD that were given.
    """

    body: dict[str, Any]
    filtered_by: Sequence[str]
    period: Mapping[str, str]

    @property
    def site_id(self) -> str:
        """Raises InvalidQuery."""
        return check_site_id(self.body["site_id"])

    @property
    def site_ids(self) -> list[str]:
        """Raises InvalidQuery."""
        return check_site_ids(self.body["site_id"])

    def load(
        self, site: Site, now: datetime, earliest: Callable[[], datetime | None], others: Sequence[Site] = ()
    ) -> Query:
        """The query. Raises InvalidQuery; see load_query."""
        today = now.astimezone(site.zone).date()
        match self.period:
            case {"period": name}:
                date_range: str | list[str] = name
            case {"from": first, "to": last}:
                date_range = [first, last]
            case {"from": first}:  # until now
                date_range = [first, now.isoformat() if "T" in first else today.isoformat()]
            case _:
                date_range = [(today - (_DEFAULT_DAYS - 1) * ONE_DAY).isoformat(), today.isoformat()]
        return load_query(self.body | {"date_range": date_range}, site, now, earliest, others)

    @contextmanager
    def naming_parameters(self) -> Iterator[None]:
        """Converts an InvalidQuery of the block to a BadRequest that names the parameter."""
        try:
            yield
        except InvalidQuery as error:
            raise bad_parameters({self._parameter(error): [error.message]}) from None

    def _parameter(self, error: InvalidQuery) -> str:
        match error.pointer.split("/"):
            case ["#", "filters", index, *_]:
                return self.filtered_by[int(index)]
            case ["#", "pagination", name, *_]:
                return name
            case ["#", name, *_]:
                period_by = "from" if "from" in self.period else "period"
                return {"date_range": period_by, "dimensions": "by", "include": "grain"}.get(name, name)
        if error.message.startswith("Metric"):
            return "metrics"
        named = (name for name in self.filtered_by if name.removesuffix("!") in error.message)
        return next(named, "metrics")


def read_parameters(
    args: MultiDict[str, str],
    known: Iterable[str],
    *,
    by: str = "",
    metrics: str = "",
    filtered: bool = True,
    period: str | None = None,
    rolls_up: bool = False,
) -> UrlQuery:
    """Reads parameters. `known`: the accepted names in addition to filters. `filtered`: whether filters are accepted.
    `rolls_up`: whether there may be several sites.

    `by`, `metrics` and `period` are defaults. Without a default `period` it is the last 30 days including today. Raises
    BadRequest.
    """
    wrong: dict[str, list[str]] = {}
    filters: list[Any] = []
    filtered_by: list[str] = []
    names = [*known]
    if FILTERS in names and args.get(FILTERS):
        filters = _listed(args[FILTERS], wrong)
        filtered_by = [FILTERS] * len(filters)
    dimensions_known = [*SHORT_DIMENSIONS, f"{PROP}<key>"] if filtered else []
    for name, values in args.lists():
        if name in names:
            if len(values) > 1 and not (rolls_up and name == SITE_NAME):
                wrong[name] = ["Sent more than once. Send it once."]
        elif filtered and (dimension := _dimension(name.removesuffix("!"))):
            filters.append(["is_not" if name.endswith("!") else "is", dimension, values])
            filtered_by.append(name)
        else:
            wrong[name] = [
                f"Unknown parameter.{did_you_mean(name, [*names, *dimensions_known])} /docs lists all of them."
            ]
    if not args.get(SITE_NAME):
        wrong[SITE_NAME] = ["Missing data for required field."]
    dimensions = []
    for name in _several(args.get("by", by)):
        dimensions.append(_dimension(name))
        if not dimensions[-1]:
            wrong["by"] = [
                f"{name!r} is not a dimension.{did_you_mean(name, SHORT_DIMENSIONS)} /docs lists all of them."
            ]
    body = {
        SITE_NAME: args.getlist(SITE_NAME) if rolls_up else args.get(SITE_NAME),
        "metrics": _several(args.get("metrics", metrics)) or ["visitors"],
        "dimensions": dimensions,
        "filters": filters,
        "pagination": {name: _whole(name, args[name], wrong) for name in PAGING if name in names and name in args},
    }
    if "to" in args and "from" not in args:
        wrong["from"] = ["Missing. `to` is the last day of the period: send its first day as `from`, YYYY-MM-DD."]
    if "period" in args and not {"from", "to"}.isdisjoint(args):
        wrong["period"] = ["Send either period, or from and to."]
    if wrong:
        raise bad_parameters(wrong)
    default = {} if period is None else {"period": period}
    return UrlQuery(body, filtered_by, {name: args[name] for name in PERIOD if name in args} or default)


def bad_parameters(wrong: dict[str, list[str]]) -> BadRequest:
    return BadRequest("invalid_query", f"The request is not valid: see {', '.join(wrong)}.", wrong)


def short(dimension: str) -> str:
    """The name of a dimension that read_parameters accepts."""
    if dimension.startswith(PROPS):
        return PROP + dimension.removeprefix(PROPS)
    kind, _, name = dimension.partition(":")
    return kind if kind == "time" else name


def _dimension(name: str) -> str | None:
    if name.startswith(PROP) and name != PROP:
        return PROPS + name.removeprefix(PROP)
    return SHORT_DIMENSIONS.get(name)


def _listed(text: str, wrong: dict[str, list[str]]) -> list[Any]:
    with suppress(ValueError, RecursionError):
        found = json.loads(text)
        if isinstance(found, list):
            return found
    wrong[FILTERS] = ['Not a JSON array of filters such as [["is", "visit:country", ["DE"]]].']
    return []


def _whole(name: str, text: str, wrong: dict[str, list[str]]) -> int:
    if text.isascii() and text.isdigit() and len(text) < 20:
        return int(text)
    wrong[name] = ["Not a whole number."]
    return 0


def _several(text: str) -> list[str]:
    return [part.strip() for part in text.split(",")] if text else []
