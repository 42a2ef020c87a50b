"""The rows of funnels, retention and journeys, ready to be shown. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from analytics.queries.query import GRAINS, Grain, Period, count_labels
from analytics.reports.results import Cohort
from report_app.metric_format import share
from report_app.pages.words import bucket_name, cut_name, percent
from report_app.texts import lazy

# The panels' titles.
EXPLORATIONS = {
    "funnel": lazy("Funnels"),
    "journeys": lazy("Journeys"),
    "retention": lazy("Retention"),
}
_LEAST_COHORTS, _MOST_COHORTS = 5, 31  # that a panel shows well
_SHADES = 5
NEW_VISIT, END_OF_VISIT = lazy("The visit began here"), lazy("The visit ended here")


@dataclass(frozen=True, slots=True)
class FunnelStep:
    """`of_first` and `of_previous`: shares as texts. `dropped`: how many did the step before and not this one."""

    label: str
    count: int
    bar: str
    of_first: str
    of_previous: str
    dropped: int


@dataclass(frozen=True, slots=True)
class CohortRow:
    """`shares`: for each grain since the first visit, how many came back, as text, and its shade from 0 to 5."""

    name: str
    visitors: int
    shares: list[tuple[str, int, int]]


@dataclass(frozen=True, slots=True)
class JourneyRow:
    """`page` is "" if the visit began or ended. `start` and `tail` are those of cut_name."""

    page: str
    name: str
    start: str
    tail: str
    count: int
    bar: str


def funnel_steps(labels: Sequence[str], counts: Sequence[int]) -> list[FunnelStep]:
    before = [counts[0], *counts]
    return [
        FunnelStep(
            label,
            count,
            _bar(count, counts[0]),
            percent(share(count, counts[0])),
            percent(share(count, previous)),
            previous - count,
        )
        for label, count, previous in zip(labels, counts, before, strict=False)
    ]


def retention_grains(period: Period) -> list[Grain]:
    """The grains by which the cohorts of a period fit into a panel. There is at least one."""
    found: list[Grain] = [grain for grain in GRAINS if grain != "hour" and count_labels(period, grain) <= _MOST_COHORTS]
    return found or ["month"]


def usual_grain(period: Period) -> Grain:
    """The longest of these grains by which there are some cohorts."""
    grains = retention_grains(period)
    return next((grain for grain in reversed(grains) if count_labels(period, grain) >= _LEAST_COHORTS), grains[0])


def cohort_rows(cohorts: Sequence[Cohort], grain: Grain) -> list[CohortRow]:
    return [CohortRow(bucket_name(each.label, grain), each.active[0], _shares(each.active)) for each in cohorts]


def journey_rows(pages: Sequence[tuple[str | None, int]], without_page: str) -> list[JourneyRow]:
    most = max((count for _, count in pages), default=0)
    return [_journey_row(page, count, most, without_page) for page, count in pages]


def _journey_row(page: str | None, count: int, most: int, without_page: str) -> JourneyRow:
    name = str(without_page) if page is None else page
    return JourneyRow(page or "", name, *cut_name("event:page", name), count, _bar(count, most))


def _shares(active: Sequence[int]) -> list[tuple[str, int, int]]:
    shares = [share(count, active[0]) for count in active]
    return [(percent(each), count, -(-int(each) * _SHADES // 100)) for each, count in zip(shares, active, strict=True)]


def _bar(count: int, most: int) -> str:
    return f"{share(count, most):.1f}%"
