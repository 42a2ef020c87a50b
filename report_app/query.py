"""POST /api/v2/query: the queries and answers of Plausible's Stats API v2, also as CSV."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import partial
from itertools import chain
from typing import Annotated, Any, NotRequired, TypedDict

from flask import Blueprint, Response

from analytics.json_schema import TEXT, Count, MomentText
from analytics.queries.comparison import counterparts
from analytics.queries.local_time import time_labels
from analytics.queries.query import Query
from analytics.queries.query_schema import query_json, read_query
from analytics.reports.budget import Budget
from analytics.reports.engine import Reports
from analytics.reports.results import Answer, ImportedPart, Metric, Row, ranges_of_days
from report_app.csv_output import CSV, FORMAT_PARAMETERS, as_csv, wants_csv
from report_app.errors import OF_PROGRAMS, PlausibleError
from report_app.metric_format import (
    Cell,
    Figure,
    WarningJson,
    Warnings,
    cells,
    change,
    columns,
    figure,
    metric_warnings,
    nothing,
)
from report_app.query_json_schema import QUERY
from report_app.site_lookup import SITE_EXAMPLE, SiteLookup
from web.auth import Check, api_key_id
from web.openapi import JSON, Operation, described_by
from web.request_data import read_body

Understood = Annotated[Mapping[str, Any], "The query as Footfall read it."]


class ComparisonJson(TypedDict):
    dimensions: list[str]
    metrics: list[Figure]
    change: list[Annotated[int | None, "A whole percentage."]]


class RowJson(TypedDict):
    dimensions: Sequence[str]
    metrics: list[Figure]
    comparison: NotRequired[ComparisonJson | None]


class MetaJson(TypedDict, total=False):
    time_labels: list[str]
    total_rows: Count
    as_of: MomentText
    imports_included: bool
    imports_skip_reason: str
    imports_warning: str
    imports_days: Annotated[list[list[str]], "The first and the last day of each range of imported days."]
    metric_warnings: Warnings


class AnswerJson(TypedDict):
    results: list[RowJson]
    meta: MetaJson
    query: Understood


PROGRAMS = "Reports for programs"
_SUM_OF_DAYS: WarningJson = {
    "code": "sum_of_days",
    "warning": "Imported visitors are counted by day. A visitor who came on several of these days counts several"
    " times.",
}
_QUERY = Operation(
    summary="Any query, in the format of Plausible's Stats API v2",
    tag=PROGRAMS,
    note="docs/reports.md explains each metric.",
    body={JSON: QUERY},
    parameters=FORMAT_PARAMETERS,
    answer={CSV: TEXT},
    error=PlausibleError,
    says=OF_PROGRAMS,
    examples={
        "body": {
            "site_id": SITE_EXAMPLE,
            "metrics": ["visitors", "bounce_rate"],
            "date_range": "30d",
            "dimensions": ["visit:source"],
            "filters": [["contains_not", "event:page", ["/internal"]]],
            "order_by": [["visitors", "desc"]],
            "include": {"comparisons": {"mode": "previous_period"}, "total_rows": True},
            "pagination": {"limit": 10, "offset": 0},
        }
    },
)


def query_blueprint(reports: Reports, site_called: SiteLookup, auth: Check, clock: Callable[[], datetime]) -> Blueprint:
    blueprint = Blueprint("query", __name__, url_prefix="/api/v2")
    blueprint.before_request(auth)

    @blueprint.post("/query")
    @described_by(_QUERY)
    def answer_query() -> AnswerJson | Response:
        budget = reports.budget(api_key_id())
        csv, body = wants_csv(), read_body()
        query = read_query(body, site_called.each, clock(), partial(reports.earliest_of, budget=budget))
        answer = reports.answer(query, budget)
        if csv:
            then = _labels_before(query)
            return as_csv(_names(query), (_cells(query, row, then) for row in budget.each(answer.rows)))
        return answer_json(query, answer, body, budget)

    return blueprint


def answer_json(query: Query, answer: Answer, body: dict[str, Any], budget: Budget) -> AnswerJson:
    """The answer to the query that was read from `body`. Raises Refused when the time is over."""
    results = _results(query, budget.each(answer.rows))
    return {"results": results, "meta": _meta(query, answer), "query": query_json(query, body)}


def _results(query: Query, rows: Iterable[Row]) -> list[RowJson]:
    then = _labels_before(query)
    return [_result(query, row, then) for row in rows]


def _result(query: Query, row: Row, then: Mapping[str, str]) -> RowJson:
    result: RowJson = {"dimensions": row.dimensions, "metrics": [figure(metric) for metric in row.metrics]}
    if query.compare_with:
        result["comparison"] = _comparison(query, row, then)
    return result


def _comparison(query: Query, row: Row, then: Mapping[str, str]) -> ComparisonJson | None:
    """The comparison of a row. None if the other period has no such bucket."""
    dimensions = _dimensions_before(query, row, then)
    if dimensions is None:
        return None
    before = _before(query, row)
    return {
        "dimensions": dimensions,
        "metrics": [figure(metric) for metric in before],
        "change": [change(*both) for both in zip(row.metrics, before, strict=True)],
    }


def _dimensions_before(query: Query, row: Row, then: Mapping[str, str]) -> list[str] | None:
    """The dimensions of the compared row. None if the other period has no such bucket."""
    both = zip(query.dimensions, row.dimensions, strict=True)
    found = [then.get(value) if dimension.startswith("time:") else value for dimension, value in both]
    known = [value for value in found if value is not None]
    return known if len(known) == len(found) else None


def _before(query: Query, row: Row) -> Sequence[Metric]:
    return row.before or [nothing(metric) for metric in query.metrics]


def _labels_before(query: Query) -> dict[str, str]:
    """The label of the compared bucket, by the label of each bucket."""
    if not (query.grain and query.compare_with):
        return {}
    return counterparts(query.period, query.compare_with, query.grain)


def _meta(query: Query, answer: Answer) -> MetaJson:
    meta: MetaJson = {}
    if query.time_labels and query.grain:
        meta["time_labels"] = time_labels(query.period, query.grain)
    if answer.total_rows is not None:
        meta["total_rows"] = answer.total_rows
    if answer.as_of:
        meta["as_of"] = answer.as_of.isoformat()
    if answer.imports:
        meta |= _meta_of_imports(answer.imports)
    summed = answer.imports.summed if answer.imports else ()
    if warnings := metric_warnings(query) | dict.fromkeys(summed, _SUM_OF_DAYS):
        meta["metric_warnings"] = warnings
    return meta


def _meta_of_imports(imports: ImportedPart) -> MetaJson:
    meta: MetaJson = {"imports_included": bool(imports.days)}
    if imports.days:
        meta["imports_days"] = [[f"{first}", f"{last}"] for first, last in ranges_of_days(imports.days)]
    if imports.skip_reason:
        meta["imports_skip_reason"] = imports.skip_reason
    if imports.warning:
        meta["imports_warning"] = imports.warning
    return meta


def _names(query: Query) -> list[str]:
    of_metrics = list(chain.from_iterable(columns(metric) for metric in query.metrics))
    if not query.compare_with:
        return [*query.dimensions, *of_metrics]
    before = [f"{name}_before" for name in of_metrics]
    return [*query.dimensions, *of_metrics, *before, *(f"{metric}_change" for metric in query.metrics)]


def _cells(query: Query, row: Row, then: Mapping[str, str]) -> Iterator[Cell]:
    is_compared = _dimensions_before(query, row, then) is not None
    before = _before(query, row) if is_compared else [None] * len(query.metrics)
    yield from row.dimensions
    for metrics in (row.metrics, before) if query.compare_with else (row.metrics,):
        for name, metric in zip(query.metrics, metrics, strict=True):
            yield from cells(name, metric)
    if query.compare_with:
        yield from (change(*both) for both in zip(row.metrics, before, strict=True))
