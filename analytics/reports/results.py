"""The results of reports. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal

from analytics.json_schema import Count


@dataclass(frozen=True, slots=True)
class MoneyAmount:
    amount: Decimal
    currency: str


# None means that no event has a value, such as the scroll depth of a page that no visitor scrolled.
Metric = int | float | Decimal | MoneyAmount | None


@dataclass(frozen=True, slots=True)
class Row:
    """One group of events. `before` holds the same metrics in the period that it is compared with."""

    dimensions: tuple[str, ...]
    metrics: tuple[Metric, ...]
    before: tuple[Metric, ...] | None = None


# Why imported daily totals are not included, in Plausible's words.
NO_IMPORTED_DATA, OUT_OF_RANGE = "no_imported_data", "out_of_range"
UNSUPPORTED_QUERY, UNSUPPORTED_INTERVAL = "unsupported_query", "unsupported_interval"


@dataclass(frozen=True, slots=True)
class ImportedPart:
    """What an answer has of imported daily totals: the days that come from them, or a `skip_reason`. `warning` says
    more about a reason that another query would not have. `summed` are the metrics that add up the visitors of several
    days.
    """

    days: tuple[date, ...] = ()
    skip_reason: str = ""
    warning: str = ""
    summed: tuple[str, ...] = ()


def ranges_of_days(days: Iterable[date]) -> list[tuple[date, date]]:
    """Return the first and the last day of each range of days, which are in order."""
    found: list[tuple[date, date]] = []
    for day in days:
        if found and found[-1][1] + timedelta(days=1) == day:
            found[-1] = found[-1][0], day
        else:
            found.append((day, day))
    return found


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to a query. `total_rows` is the number of rows without limit and offset, if the query requested it.
    `as_of`: not all events stored after it are included, because there were too many to read at once. None means that
    all events are included. `imports` is None if the query did not ask for imported data.
    """

    rows: tuple[Row, ...]
    total_rows: int | None = None
    as_of: datetime | None = None
    imports: ImportedPart | None = None


@dataclass(frozen=True, slots=True)
class PathViews:
    path: str
    views: Count


@dataclass(frozen=True, slots=True)
class SiteStats:
    """`total_views` counts pageviews. `unique_users` counts distinct visitors over all events; an event without a
    visitor counts for none.

    `top_paths` holds the ten most viewed paths; ties are ordered by path. A pageview without a path counts only in
    `total_views`.
    """

    total_views: int
    unique_users: int
    top_paths: list[PathViews]


@dataclass(frozen=True, slots=True)
class Cohort:
    """The visitors whose first event of the period is in the bucket `label`. `active[k]` is how many of them returned k
    buckets later. `active[0]` is all of them.
    """

    label: str
    active: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Journeys:
    """How often each page followed or preceded a page. None as the page means that the visit ended or began there."""

    following: tuple[tuple[str | None, int], ...]
    preceding: tuple[tuple[str | None, int], ...]


@dataclass(frozen=True, slots=True)
class PastEvent:
    """An event in a visitor's history. `name` is the event_type, "pageview" for both spellings. `props` are texts, as
    filters compare them.
    """

    occurred_at: datetime
    name: str
    page: str | None = None
    hostname: str | None = None
    engagement_time: int | None = None
    scroll_depth: int | None = None
    revenue: MoneyAmount | None = None
    props: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True)
class PastVisit:
    """A visit in a visitor's history. `duration` is in whole seconds. `described` holds the names of DESCRIBED that the
    entry event has. `events` has the oldest first.
    """

    began_at: datetime
    duration: int
    pageviews: int
    bounce: bool
    entry_page: str | None
    exit_page: str | None
    described: Mapping[str, str]
    events: tuple[PastEvent, ...]


@dataclass(frozen=True, slots=True)
class VisitorHistory:
    """A visitor's visits, the latest first. `is_cut` is true if events of the oldest visits are left out."""

    visits: tuple[PastVisit, ...]
    is_cut: bool = False


class Refused(Exception):
    """A valid query that is not answered. `code` is `time_limit`, `memory_limit` or `busy`.

    It is not a dataclass, because a context manager sets the traceback of an exception, which fails if the exception is
    frozen.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
