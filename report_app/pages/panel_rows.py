"""The rows of a panel and of a full list, ready to be shown. Pure."""

from dataclasses import dataclass
from datetime import datetime

from analytics.queries.query import Query
from analytics.reports.results import Answer, ImportedPart, Metric, Row
from report_app.pages.page_state import PageState
from report_app.pages.panels import FUNCTIONS_SHOWN, LIST_ROWS, PanelTab
from report_app.pages.words import FUNCTION_LABELS, METRIC_LABELS, cut_name, number, value_name


@dataclass(frozen=True, slots=True)
class PanelRow:
    """`name` is what people call the value; its two parts are those of cut_name. `bar` is the share of the largest row,
    in percent. `numbers` are the metrics as texts. `link` is the query string of the page that the row filters, "" if
    it filters none.
    """

    name: str
    start: str
    tail: str
    bar: str
    numbers: list[str]
    link: str


@dataclass(frozen=True, slots=True)
class PanelRows:
    """`total` is the number of all rows. `columns` are the names of the metrics. `imports`: what the rows have of
    imported data, or None if they were not asked for it.
    """

    rows: list[PanelRow]
    total: int
    columns: list[str]
    as_of: datetime | None = None
    imports: ImportedPart | None = None

    def pages(self) -> int:
        return max(1, -(-self.total // LIST_ROWS))


@dataclass(frozen=True, slots=True)
class PropertyNumbers:
    """`events` have a number as the property. `figures` are functions of these numbers: a label, and a text."""

    events: int
    figures: list[tuple[str, str]]


def numbers_of(query: Query, answer: Answer) -> PropertyNumbers | None:
    """The answer to panels.numbers. None if no event has a number."""
    count, *found = answer.rows[0].metrics
    if not isinstance(count, int) or not count:
        return None
    labels = [FUNCTION_LABELS[function] for function in FUNCTIONS_SHOWN]
    figures = [number(*each) for each in zip(query.metrics[1:], found, strict=True)]
    return PropertyNumbers(count, list(zip(labels, figures, strict=True)))


def rows_of(tab: PanelTab, state: PageState, query: Query, answer: Answer) -> PanelRows:
    largest = max((_size(row.metrics[0]) for row in answer.rows), default=0)
    rows = [_row(tab, state, query, row, largest) for row in answer.rows]
    columns = [METRIC_LABELS[metric] for metric in query.metrics]
    return PanelRows(rows, answer.total_rows or 0, columns, answer.as_of, answer.imports)


def _row(tab: PanelTab, state: PageState, query: Query, row: Row, largest: float) -> PanelRow:
    value, metrics = row.dimensions[0], row.metrics
    name = value_name(tab.dimension, value)
    start, tail = cut_name(tab.dimension, name)
    bar = f"{100 * _size(metrics[0]) / largest if largest else 0:.1f}%"
    numbers = [number(metric, each) for metric, each in zip(query.metrics, metrics, strict=True)]
    link = "" if tab.is_plain else state.with_filter(tab.dimension, value).as_query()
    return PanelRow(name, start, tail, bar, numbers, link)


def _size(value: Metric) -> float:
    return value if isinstance(value, int | float) else 0
