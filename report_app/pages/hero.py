"""The figures and the chart of a dashboard, ready to be shown. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from analytics.dashboards.annotations import Annotation
from analytics.queries.comparison import counterparts
from analytics.queries.local_time import labels_of_days, time_labels
from analytics.queries.query import Grain, Period, Query
from analytics.reports.results import Answer, ImportedPart, Metric
from report_app.pages.page_state import FIGURES, PageState, default_grain, grains_of, open_bucket
from report_app.pages.words import METRIC_LABELS, Change, bucket_name, change_of, number, period_name, tick_name


@dataclass(frozen=True, slots=True)
class KeyFigure:
    """`change` is None without a comparison."""

    name: str
    label: str
    text: str
    value: Metric
    change: Change | None
    before: str


@dataclass(frozen=True, slots=True)
class Point:
    """A bucket of the chart. `value` and `before` are None where there is no bucket or nothing to measure, and in the
    future. `is_open`: more events may enter the bucket. `note`: what happened in the bucket, by its annotations.
    `is_imported`: it has imported days.
    """

    name: str
    tick: str
    value: float | None
    text: str
    before_name: str = ""
    before: float | None = None
    before_text: str = ""
    is_open: bool = False
    note: str = ""
    is_imported: bool = False


@dataclass(frozen=True, slots=True)
class Chart:
    figure: str
    grain: Grain
    grains: list[Grain]
    points: list[Point]
    period: str
    period_before: str

    @property
    def label(self) -> str:
        return METRIC_LABELS[self.figure]

    @property
    def has_open(self) -> bool:
        return any(point.is_open for point in self.points)

    @property
    def has_imported(self) -> bool:
        return any(point.is_imported for point in self.points)


@dataclass(frozen=True, slots=True)
class Hero:
    """`is_empty`: the period has no events. `as_of`: see Answer. `notes`: the annotations of the period, with the names
    of their days. `imports`: what the figures have of imported data, or None if they were not asked for it.
    """

    figures: list[KeyFigure]
    chart: Chart
    as_of: datetime | None
    notes: list[tuple[str, Annotation]]
    imports: ImportedPart | None

    @property
    def is_empty(self) -> bool:
        return not any(point.value or point.before for point in self.chart.points) and self.figures[0].text == "0"


def grain_of(state: PageState, period: Period) -> Grain:
    """The grain of the state, if the period can be shown by it."""
    return next((grain for grain in grains_of(period) if grain == state.grain), default_grain(period))


def key_figures(query: Query, answer: Answer) -> list[KeyFigure]:
    (row,) = answer.rows
    before = row.before or [None] * len(FIGURES)
    shown = zip(query.metrics, row.metrics, before, strict=True)
    return [_figure(metric, value, then, compared=bool(query.compare_with)) for metric, value, then in shown]


def chart_of(
    state: PageState, query: Query, answer: Answer, now: datetime, annotations: Sequence[Annotation] = ()
) -> Chart:
    """`query` asks for the selected figure by time."""
    grain = query.grain or "day"
    is_open = open_bucket(query.period, grain, now)
    then = counterparts(query.period, query.compare_with, grain) if query.compare_with else {}
    future = {label for label in time_labels(query.period, grain) if is_open and label > is_open}
    one_day = query.period.end - query.period.start <= timedelta(hours=25)  # also a day with a change of clocks
    imported = labels_of_days(answer.imports.days, grain) if answer.imports else set()
    notes = _notes([row.dimensions[0] for row in answer.rows], annotations)
    points = []
    for row in answer.rows:
        label, value = row.dimensions[0], row.metrics[0]
        other = then.get(label)
        before = (row.before or (0,))[0] if other else None
        points.append(
            Point(
                name=bucket_name(label, grain),
                tick=tick_name(label, grain, one_day=one_day),
                value=None if label in future else _number(value),
                text="" if label in future else number(state.figure, value),
                before_name=bucket_name(other, grain) if other else "",
                before=_number(before),
                before_text=number(state.figure, before) if other else "",
                is_open=label == is_open,
                note=notes.get(label, ""),
                is_imported=label in imported,
            )
        )
    before_name = period_name(query.compare_with) if query.compare_with else ""
    return Chart(state.figure, grain, grains_of(query.period), points, period_name(query.period), before_name)


def _notes(labels: Sequence[str], annotations: Sequence[Annotation]) -> dict[str, str]:
    """The annotations by the label of the first bucket of their day, or else of the bucket that the day is in."""
    notes: dict[str, str] = {}
    for each in annotations:
        before = [label for label in labels if label[:10] <= each.day.isoformat()]
        if before:
            label = next(one for one in before if one[:10] == before[-1][:10])
            notes[label] = f"{notes[label]}; {each.text}" if label in notes else each.text
    return notes


def _figure(metric: str, value: Metric, before: Metric, *, compared: bool) -> KeyFigure:
    change = change_of(metric, value, before) if compared else None
    return KeyFigure(metric, METRIC_LABELS[metric], number(metric, value), value, change, number(metric, before))


def _number(value: Metric) -> float | None:
    return value if isinstance(value, int | float) else None
