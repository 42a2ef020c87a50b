"""POST /api/v2/query: the queries and answers of Plausible's Stats API v2, also as CSV."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import partial
from itertools import chain
from typing import Any

from flask import Blueprint, Response, jsonify

from analytics.queries.comparison import counterparts
from analytics.queries.local_time import time_labels
from analytics.queries.query import Query
from analytics.queries.query_schema import load_query, read_site_id, shown
from analytics.reports.engine import Reports
from analytics.reports.results import Answer, Metric, Row
from report_app.csv_output import as_csv, wants_csv
from report_app.metric_format import Cell, cells, change, columns, figure, nothing
from report_app.site_lookup import SiteLookup
from web.auth import Check, api_key_id
from web.request_data import read_body


def query_blueprint(reports: Reports, site_called: SiteLookup, auth: Check, clock: Callable[[], datetime]) -> Blueprint:
    blueprint = Blueprint("query", __name__, url_prefix="/api/v2")
    blueprint.before_request(auth)

    @blueprint.post("/query")
    def answer_query() -> Response:
        budget = reports.budget(api_key_id())
        csv, body = wants_csv(), read_body()
        site = site_called(read_site_id(body))
        query = load_query(body, site, clock(), partial(reports.earliest, site.site_id, budget))
        answer = reports.answer(query, budget)
        rows = budget.each(answer.rows)
        if csv:
            then = _labels_before(query)
            return as_csv(_names(query), (_cells(query, row, then) for row in rows))
        return jsonify(results=_results(query, rows), meta=_meta(query, answer), query=shown(query, body))

    return blueprint


def _results(query: Query, rows: Iterable[Row]) -> list[dict[str, Any]]:
    then = _labels_before(query)
    return [_result(query, row, then) for row in rows]


def _result(query: Query, row: Row, then: Mapping[str, str]) -> dict[str, Any]:
    result: dict[str, Any] = {"dimensions": row.dimensions, "metrics": [figure(metric) for metric in row.metrics]}
    if query.compare_with:
        result["comparison"] = _comparison(query, row, then)
    return result


def _comparison(query: Query, row: Row, then: Mapping[str, str]) -> dict[str, Any] | None:
    """The comparison of a row. None if the other period has no such bucket."""
    dimensions = _dimensions_before(query, row, then)
    if None in dimensions:
        return None
    before = _before(query, row)
    return {
        "dimensions": dimensions,
        "metrics": [figure(metric) for metric in before],
        "change": [change(*both) for both in zip(row.metrics, before, strict=True)],
    }


def _dimensions_before(query: Query, row: Row, then: Mapping[str, str]) -> list[str | None]:
    return [
        then.get(value) if dimension.startswith("time:") else value
        for dimension, value in zip(query.dimensions, row.dimensions, strict=True)
    ]


def _before(query: Query, row: Row) -> Sequence[Metric]:
    return row.before or [nothing(metric) for metric in query.metrics]


def _labels_before(query: Query) -> dict[str, str]:
    """The label of the compared bucket, by the label of each bucket."""
    if not (query.grain and query.compare_with):
        return {}
    return counterparts(query.period, query.compare_with, query.grain)


def _meta(query: Query, answer: Answer) -> dict[str, Any]:
    meta: dict[str, Any] = {}
    if query.time_labels and query.grain:
        meta["time_labels"] = time_labels(query.period, query.grain)
    if answer.total_rows is not None:
        meta["total_rows"] = answer.total_rows
    if answer.as_of:
        meta["as_of"] = answer.as_of.isoformat()
    return meta


def _names(query: Query) -> list[str]:
    of_metrics = list(chain.from_iterable(columns(metric) for metric in query.metrics))
    if not query.compare_with:
        return [*query.dimensions, *of_metrics]
    before = [f"{name}_before" for name in of_metrics]
    return [*query.dimensions, *of_metrics, *before, *(f"{metric}_change" for metric in query.metrics)]


def _cells(query: Query, row: Row, then: Mapping[str, str]) -> Iterator[Cell]:
    is_compared = None not in _dimensions_before(query, row, then)
    before = _before(query, row) if is_compared else [None] * len(query.metrics)
    yield from row.dimensions
    for metrics in (row.metrics, before) if query.compare_with else (row.metrics,):
        for name, metric in zip(query.metrics, metrics, strict=True):
            yield from cells(name, metric)
    if query.compare_with:
        yield from (change(*both) for both in zip(row.metrics, before, strict=True))
