"""What a report answers with. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal


@dataclass(frozen=True, slots=True)
class MoneyAmount:
    amount: Decimal
    currency: str


# None: nothing to say it of, as the scroll depth of a page that nobody scrolled.
Metric = int | float | MoneyAmount | None


@dataclass(frozen=True, slots=True)
class Row:
    """One group of events; `before`: the same metrics in the period that it is compared with."""

    dimensions: tuple[str, ...]
    metrics: tuple[Metric, ...]
    before: tuple[Metric, ...] | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """`total_rows`: how many there are without limit and offset, where that was asked. `as_of`: not everything that was
    stored after it is in the numbers, as too much came in to be read at once; None: all is.
    """

    rows: tuple[Row, ...]
    total_rows: int | None = None
    as_of: datetime | None = None


@dataclass(frozen=True, slots=True)
class PathViews:
    path: str
    views: int


@dataclass(frozen=True, slots=True)
class SiteStats:
    """total_views: pageviews. unique_users: distinct visitors over all events; an event without one is nobody's.

    top_paths: the ten most viewed, ties by path; a pageview that brought no path counts in total_views only.
    """

    total_views: int
    unique_users: int
    top_paths: list[PathViews]


@dataclass(frozen=True, slots=True)
class Cohort:
    """Visitors whose first event of the period fell into the bucket `label`. `active[k]`: how many of them came again k
    buckets later; active[0] are all of them.
    """

    label: str
    active: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Journeys:
    """How often which page came after, and before, a page; None: nothing did, the visit ended or began with it."""

    following: tuple[tuple[str | None, int], ...]
    preceding: tuple[tuple[str | None, int], ...]


@dataclass(frozen=True, slots=True)
class PastEvent:
    """`name`: the event_type, "pageview" for both spellings of it. `props`: as text, as they are filtered by."""

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
    """`duration`: whole seconds. `described`: those of DESCRIBED that its entry event has. `events`: oldest first."""

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
    """The latest visit first. `is_cut`: there are more events than are shown, of the oldest visits."""

    visits: tuple[PastVisit, ...]
    is_cut: bool = False


class Refused(Exception):
    """A question that was understood and will not be answered. `code`: `time_limit`, `memory_limit` or `busy`.

    No dataclass: a frozen exception cannot pass a context manager, which sets its traceback.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
