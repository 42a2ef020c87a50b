"""The results of reports. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
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


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to a query. `total_rows` is the number of rows without limit and offset, if the query requested it.
    `as_of`: not all events stored after it are included, because there were too many to read at once. None means that
    all events are included.
    """

    rows: tuple[Row, ...]
    total_rows: int | None = None
    as_of: datetime | None = None


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
