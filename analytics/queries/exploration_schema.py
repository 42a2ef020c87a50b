"""Reads the JSON of funnels, retention and journeys.

The date range and filters are those of a query and are read as such. Only the names that a query does not have are read
here, and only this module knows them. Callers must handle InvalidQuery.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from marshmallow import Schema, ValidationError, fields, validates_schema
from marshmallow.validate import Length, OneOf, Range

from analytics.events.event import PAGEVIEW_TYPES
from analytics.events.page_patterns import page_pattern
from analytics.json_schema import Json, ref
from analytics.languages import joined, translatable
from analytics.queries.periods import ONE_DAY, ONE_HOUR
from analytics.queries.query import GRAINS, And, Condition, Done, Filter, Grain, Not, Or, Query
from analytics.queries.query_schema import (
    LONGEST_TEXT,
    Earliest,
    InvalidQuery,
    SitesCalled,
    check_length,
    query_json,
    read_query,
)
from analytics.schema_fields import OPTIONAL, Text, Whole
from analytics.suggestion import did_you_mean

LEAST_STEPS, MOST_STEPS = 2, 8
MOST_COHORTS = 400  # the days of a year and a few more; each cohort may be followed through all later ones
_MOST_PAGES = 1_000
_WINDOW = re.compile(r"([1-9][0-9]{0,3})([mhd])")
_UNITS = {"m": timedelta(minutes=1), "h": ONE_HOUR, "d": ONE_DAY}
LONGEST_WINDOW = 366 * ONE_DAY
OF_VISIT = "visit"
STEP_KINDS = ("goal", "page", "event", "filter")  # of steps

_WINDOW_JSON = {
    "pattern": f"^({OF_VISIT}|[1-9][0-9]{{0,3}}m|[1-9][0-9]{{0,2}}h|([1-9][0-9]?|[12][0-9]{{2}}|3[0-5][0-9]|36[0-6])d)$"
}


def is_window(value: str) -> None:
    if value != OF_VISIT and not (_length(value) and _length(value) <= LONGEST_WINDOW):
        raise ValidationError(
            translatable('Expected "visit", or minutes, hours or days such as "30m", "12h" or "7d", at most 366d.')
        )


def _length(window: str) -> timedelta:
    found = _WINDOW.fullmatch(window)
    return int(found[1]) * _UNITS[found[2]] if found else timedelta(0)


class DateRange(fields.Raw):
    """The date range of a query, read as such."""

    json_schema: Json = ref("DateRange")


class SiteIds(fields.Raw):
    """The site of a query, or several sites, read as such."""

    json_schema: Json = ref("SiteIds")


class QueryFilter(fields.Raw):
    """One filter of a query, read as such."""

    json_schema: Json = ref("QueryFilter")


class StepSchema(Schema):
    json_schema: Json = {"oneOf": [{"required": [kind]} for kind in STEP_KINDS]}

    goal = Text(shortest=1, longest=LONGEST_TEXT)
    page = Text(shortest=1, longest=LONGEST_TEXT)
    event = Text(shortest=1, longest=128)
    filter = QueryFilter()
    label = Text(shortest=1, longest=128, **OPTIONAL)

    @validates_schema
    def is_of_one_kind(self, step: dict[str, Any], **_: Any) -> None:
        if sum(kind in step for kind in STEP_KINDS) != 1:
            raise ValidationError(translatable("A step has exactly one of goal, page, event and filter."))


class ExplorationSchema(Schema):
    site_id = SiteIds(required=True)
    date_range = DateRange(required=True)
    filters = fields.List(QueryFilter(), load_default=list)


class FunnelSchema(ExplorationSchema):
    steps = fields.List(fields.Nested(StepSchema), required=True, validate=Length(LEAST_STEPS, MOST_STEPS))
    window = fields.String(validate=is_window, metadata=_WINDOW_JSON, load_default=OF_VISIT)


class RetentionSchema(ExplorationSchema):
    grain = fields.String(validate=OneOf(GRAINS), load_default="week")


class JourneysSchema(ExplorationSchema):
    page = Text(required=True, shortest=1, longest=LONGEST_TEXT)
    limit = Whole(validate=Range(1, _MOST_PAGES), load_default=10)


_funnel, _retention, _journeys = FunnelSchema(), RetentionSchema(), JourneysSchema()


@dataclass(frozen=True, slots=True)
class Funnel:
    """A funnel: the steps must follow one another within `window`, or within one visit if it is None. `shown` is the
    query as it was understood.
    """

    query: Query
    labels: tuple[str, ...]
    steps: tuple[Filter, ...]
    window: timedelta | None
    shown: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Retention:
    query: Query
    grain: Grain
    shown: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class JourneysThrough:
    query: Query
    page: str
    shown: Mapping[str, Any]


def load_funnel(body: object, sites_called: SitesCalled, now: datetime, earliest: Earliest) -> Funnel:
    """Return the funnel that `body` describes. Raises InvalidQuery."""
    asked = _load(_funnel, body)
    steps: list[dict[str, Any]] = asked["steps"]
    own = len(asked["filters"])

    def place(pointer: str) -> str:
        """Return the pointer to the step. Steps are read as filters that follow the query's own filters."""
        found = re.fullmatch(r"#/filters/([0-9]+)(.*)", pointer)
        if not found or int(found[1]) < own:
            return pointer
        kind = _kind(steps[int(found[1]) - own])
        return f"#/steps/{int(found[1]) - own}/{kind}" + (found[2] if kind == "filter" else "")

    try:
        filters = asked["filters"] + [_filter_of(step) for step in steps]
        query = _query(asked, filters, sites_called, now, earliest)
    except InvalidQuery as error:
        raise InvalidQuery(place(error.pointer), error.message) from None
    # The engine reports the place again if RE2 rejects a pattern.
    placed = tuple(_placed(each, place) for each in query.filters)
    query = replace(query, filters=placed[:own])
    window = None if asked["window"] == OF_VISIT else _length(asked["window"])
    labels = tuple(_label(step, n) for n, step in enumerate(steps, start=1))
    return Funnel(query, labels, placed[own:], window, _query_json(query, asked) | {"window": asked["window"]})


def load_retention(body: object, sites_called: SitesCalled, now: datetime, earliest: Earliest) -> Retention:
    """Return the retention query that `body` describes. Raises InvalidQuery."""
    asked = _load(_retention, body)
    query = _query(asked, asked["filters"], sites_called, now, earliest)
    grain: Grain = asked["grain"]
    check_length(query.period, grain, MOST_COHORTS, "#/grain")
    return Retention(query, grain, _query_json(query, asked) | {"grain": grain})


def load_journeys(body: object, sites_called: SitesCalled, now: datetime, earliest: Earliest) -> JourneysThrough:
    """Return the journeys query that `body` describes. The query's limit is the number of pages in each direction.
    Raises InvalidQuery.
    """
    asked = _load(_journeys, body)
    query = _query(asked, asked["filters"], sites_called, now, earliest)
    query = replace(query, limit=asked["limit"])
    more = {"page": asked["page"], "limit": asked["limit"]}
    return JourneysThrough(query, asked["page"], _query_json(query, asked) | more)


def _load(schema: Schema, body: object) -> dict[str, Any]:
    try:
        loaded: dict[str, Any] = schema.load(body)  # type: ignore[arg-type]
    except ValidationError as error:
        pointer, message = next(_said(error.messages, "#"))
        if message == schema.error_messages["unknown"]:
            known = StepSchema().fields if pointer.startswith("#/steps/") else schema.fields
            message = joined(message, did_you_mean(pointer.rpartition("/")[2], known))
        raise InvalidQuery(pointer, message) from None
    return loaded


def _said(messages: object, place: str) -> Iterator[tuple[str, str]]:
    match messages:
        case dict():
            for key, inner in messages.items():
                name = str(key).replace("~", "~0").replace("/", "~1")
                yield from _said(inner, place if key == "_schema" else f"{place}/{name}")
        case [str(first), *_]:
            yield place, first


def _query(
    asked: dict[str, Any], filters: list[Any], sites_called: SitesCalled, now: datetime, earliest: Earliest
) -> Query:
    body = {name: asked[name] for name in ("site_id", "date_range")} | {"metrics": ["visitors"], "filters": filters}
    return read_query(body, sites_called, now, earliest)


def _query_json(query: Query, asked: dict[str, Any]) -> dict[str, Any]:
    answer = query_json(query, asked)
    return {name: answer[name] for name in ("site_id", "date_range", "filters")}


def _kind(step: dict[str, Any]) -> str:
    return next(kind for kind in STEP_KINDS if kind in step)


def _label(step: dict[str, Any], number: int) -> str:
    match step:
        case {"label": str(label)}:
            return label
        case {"goal": str(name)} | {"event": str(name)}:
            return name
        case {"page": str(page)}:
            return translatable("Visit %(page)s", page=page)
    return translatable("Step %(number)s", number=number)


def _filter_of(step: dict[str, Any]) -> object:
    """Return a step as a filter of a query, in JSON."""
    match step:
        case {"goal": goal}:
            return ["is", "event:goal", [goal]]
        case {"event": event}:
            return ["is", "event:name", ["pageview" if event in PAGEVIEW_TYPES else event]]
        case {"page": page}:
            whole = rf"\A{page_pattern(page)}\z"
            fits = ["matches", "event:page", [whole]] if "*" in page else ["is", "event:page", [page]]
            return ["and", [["is", "event:name", ["pageview"]], fits]]
    return step["filter"]


def _placed(one: Filter, place: Callable[[str], str]) -> Filter:
    match one:
        case Condition():
            return replace(one, place=place(one.place))
        case And(inner):
            return And(tuple(_placed(each, place) for each in inner))
        case Or(inner):
            return Or(tuple(_placed(each, place) for each in inner))
        case Not(inner_one):
            return Not(_placed(inner_one, place))
        case Done(inner_one):
            return Done(_placed(inner_one, place))
