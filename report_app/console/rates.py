"""/ops/rates: how many events come and are stored, how many wait and for how long, over the last hour, day or week."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from flask import Response, request

from analytics.journal.samples import Rate, Samples
from analytics.languages import format_number, gettext
from report_app.console.console_page import console_page
from report_app.page_blueprint import PageBlueprint
from report_app.pages.words import NOTHING, day_of_week, duration
from report_app.texts import lazy

LABELS = {"hour": lazy("Last hour"), "day": lazy("Last 24 hours"), "week": lazy("Last 7 days")}


@dataclass(frozen=True, slots=True)
class RatePoint:
    """A row of a chart and its table. `before` is drawn in grey."""

    name: str
    value: float | None
    text: str
    before: float | None = None
    before_text: str = ""


@dataclass(frozen=True, slots=True)
class RateChart:
    """`unit`: how the axis shows values, as in pages.js. `other` names the grey line, "" if there is none."""

    name: str
    title: str
    unit: str
    points: list[RatePoint]
    label: str
    other: str = ""


def add_rates(blueprint: PageBlueprint, samples: Samples) -> None:
    @blueprint.get("/ops/rates", endpoint="rates")
    def rates_page() -> Response:
        asked = request.args.get("period", "")
        length = asked if asked in LABELS else "hour"
        charts = charts_of(samples.recent(length), with_day=length == "week")
        return console_page("rates", labels=LABELS, length=length, charts=charts)


def charts_of(parts: Sequence[Rate], *, with_day: bool) -> list[RateChart]:
    """The charts. Without any sample, there is none."""
    if all(part.waiting is None for part in parts):
        return []
    names = [_name(part.start, with_day=with_day) for part in parts]
    events = [_point(name, part, "accepted", "stored") for name, part in zip(names, parts, strict=True)]
    lost = [_point(name, part, "left_out", "dead") for name, part in zip(names, parts, strict=True)]
    lag = [RatePoint(name, part.lag, _text(part.lag, duration)) for name, part in zip(names, parts, strict=True)]
    waiting = [
        RatePoint(name, part.waiting, _text(part.waiting, format_number))
        for name, part in zip(names, parts, strict=True)
    ]
    return [
        RateChart("events", gettext("Events a minute"), "count", events, gettext("Accepted"), gettext("Stored")),
        RateChart("lag", gettext("Lag: how long the oldest event waits"), "duration", lag, gettext("Lag")),
        RateChart("waiting", gettext("Events in the journal"), "count", waiting, gettext("Waiting")),
        RateChart(
            "lost", gettext("Events a minute that do not count"), "count", lost, gettext("Left out"), gettext("Dead")
        ),
    ]


def _name(start: datetime, *, with_day: bool) -> str:
    return f"{day_of_week(start.date())}, {start:%H:%M}" if with_day else f"{start:%H:%M}"


def _with_decimal(value: float) -> str:
    return format_number(value, 1)


def _point(name: str, part: Rate, value: str, other: str) -> RatePoint:
    now, before = part.per_minute(value), part.per_minute(other)
    return RatePoint(name, now, _text(now, _with_decimal), before, _text(before, _with_decimal))


def _text(value: float | None, shown: Callable[[float], str]) -> str:
    return NOTHING if value is None else shown(value)
