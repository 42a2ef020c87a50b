"""/ops/rates: how many events come and are stored, how many wait and for how long, over the last hour, day or week."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from flask import Response, request

from analytics.journal.samples import Rate, Samples
from report_app.console.console_page import console_page
from report_app.page_blueprint import PageBlueprint
from report_app.pages.words import NOTHING, duration

LABELS = {"hour": "Last hour", "day": "Last 24 hours", "week": "Last 7 days"}


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
        charts = charts_of(samples.recent(length), "%a %d %b, %H:%M" if length == "week" else "%H:%M")
        return console_page("rates", labels=LABELS, length=length, charts=charts)


def charts_of(parts: Sequence[Rate], time_format: str) -> list[RateChart]:
    """The charts. Without any sample, there is none."""
    if all(part.waiting is None for part in parts):
        return []
    names = [part.start.strftime(time_format) for part in parts]
    events = [_point(name, part, "accepted", "stored") for name, part in zip(names, parts, strict=True)]
    lost = [_point(name, part, "left_out", "dead") for name, part in zip(names, parts, strict=True)]
    lag = [RatePoint(name, part.lag, _text(part.lag, duration)) for name, part in zip(names, parts, strict=True)]
    waiting = [
        RatePoint(name, part.waiting, _text(part.waiting, "{:,.0f}".format))
        for name, part in zip(names, parts, strict=True)
    ]
    return [
        RateChart("events", "Events a minute", "count", events, "Accepted", "Stored"),
        RateChart("lag", "Lag: how long the oldest event waits", "duration", lag, "Lag"),
        RateChart("waiting", "Events in the journal", "count", waiting, "Waiting"),
        RateChart("lost", "Events a minute that do not count", "count", lost, "Left out", "Dead"),
    ]


def _point(name: str, part: Rate, value: str, other: str) -> RatePoint:
    now, before = part.per_minute(value), part.per_minute(other)
    return RatePoint(name, now, _text(now, "{:,.1f}".format), before, _text(before, "{:,.1f}".format))


def _text(value: float | None, shown: Callable[[float], str]) -> str:
    return NOTHING if value is None else shown(value)
