"""hypothesis strategies for events with many collisions, in any order of arrival, and for queries about them.

Documents are those of MongoDB's `events`. Queries are those that the parser accepts. All texts have a plain, one-to-one
lower(), so that Python and DuckDB agree on it. Regexes mean the same to every version of RE2.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import accumulate, pairwise
from pprint import pformat
from typing import Any
from uuid import UUID, uuid5
from zoneinfo import ZoneInfo

from bson import Decimal128
from hypothesis import note
from hypothesis import strategies as st

from analytics.interval import EPOCH
from analytics.queries.query import (
    COUNTS,
    DESCRIBED,
    EVENT_DIMENSIONS,
    MISSING_PROP,
    MISSING_VALUE,
    OF_GOALS,
    OF_MONEY,
    OF_NUMBERS,
    OF_PAGES,
    OF_VISITS,
    PROPS,
    SHARES,
    TIME_DIMENSIONS,
    VISIT_DIMENSIONS,
    VISIT_NUMBERS,
    And,
    Condition,
    Done,
    Filter,
    Grain,
    Not,
    Operator,
    Or,
    Order,
    Period,
    Query,
    conditions,
    missing,
    of_days,
)
from analytics.sites.site import Goal
from tests.support.oracle import Asked, Document

SITES = ("site", "другой", "third")
VISITORS = ("anna", "bob", "Ünal")
ZONES = tuple(
    ZoneInfo(name)
    for name in (
        "UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe", "Pacific/Auckland",
    )
)  # fmt: skip

# Times at which buckets begin or end, or that occur twice: midnights, months, a leap day, clock changes of these zones.
BASES = tuple(
    datetime.fromisoformat(text).replace(tzinfo=UTC)
    for text in (
        "2026-05-13T10:10", "2026-03-29T00:00", "2026-03-29T01:00", "2026-10-25T00:00", "2026-10-25T01:00",
        "2026-03-08T07:00", "2026-11-01T06:00", "2026-04-04T15:00", "2026-10-03T15:30", "2026-04-04T14:00",
        "2026-09-26T14:00", "2026-01-31T23:59:59.999", "2026-03-01T00:00", "2026-12-31T18:30", "2028-02-29T00:00",
        "2028-02-29T23:45",
    )
)  # fmt: skip

EVER = Period(datetime(2000, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC), ZoneInfo("UTC"))
MILLISECOND = timedelta(milliseconds=1)
NOON_MS = 1_794_916_800_000  # of 2026-11-17
HALF_HOUR = timedelta(minutes=30)
QUARTER_HOUR = timedelta(minutes=15)
GAPS = (
    timedelta(0), MILLISECOND, timedelta(seconds=7, milliseconds=500), timedelta(minutes=10),
    HALF_HOUR - MILLISECOND, HALF_HOUR, HALF_HOUR + MILLISECOND, timedelta(minutes=1),
    timedelta(seconds=20),
    timedelta(hours=1), timedelta(hours=23), timedelta(days=1), timedelta(days=8),
)  # fmt: skip

PATHS = (
    "/a", "/", "/a/b", "/a/b/c", "/A", "/ä", "/ΟΔΟΣ", "/οδος", "/\u0130\u0131I", "/100%_'", "/日本\\", "",
    MISSING_VALUE,
)  # fmt: skip
TYPES = ("page_view", "page_view", "page_view", "pageview", "engagement", "engagement", "signup", "Signup", "purchase")
TEXTS = (
    "google", "Google", "goo", "Ünï", "ünï", "Straße", "STRAẞE", "\u212a", "Жук", "a'b", "50%", "x_y", "",
    MISSING_VALUE, "Direct / None",
)  # fmt: skip
KNOWN = {
    "hostname": ("example.org", "Example.org", "www.example.org", ""),
    "country": ("DE", "US", "XX", "TR", ""),
    "region": ("US-CA", "DE-BE", "XX-1", ""),
    "city": ("Berlin", "berlin", "Çorum", ""),
    "language": ("de", "en-US", ""),
    "screen": ("Mobile", "Desktop", ""),
}
KEYS = ("plan", "Plan", "a.b", "it's", 'a"b', "ключ:1")
SCALARS = (
    "pro", "Pro", "Ünï", "", "1", "1.0", "true", MISSING_PROP, True, False, None,
    "12.5", "-0.25", "3", "1e3", "2.5E-3", "1.0000000005", "-1.0000000005", "1e-10",
    "9" * 19, "1" + "0" * 19, "12345678901234567890e-5",
    "1e19", "1e400", "1e-400", "1_000", " 5", "+5", ".5", "5.", "0x10", "007", "0,5", "NaN", "inf", "٣",
    0, 1, -7, 2**53 + 1, 2**63 - 1, -(2**63), 0.0, -0.0, 1.0, 0.1, -2.5, 1e22, 1e-7, 1.7976931348623157e308,
)  # fmt: skip
AMOUNTS = ("0", "10", "10.50", "0.005", "1234.567", "999999.99", "-3.25", "0.1", "0.2")
PATTERNS = (
    "^/a", "b$", "^/a/?$", "oo|ü", ".", "", r"\d+", "[A-Z]", "[^a-z]", r"^\(n", "(?i)A", r"\bb", "Жу|ж", "^.{3}$",
    "%", "'",
)  # fmt: skip


@dataclass(frozen=True)
class Stream:
    """`documents`: of one or two sites, one visitor after the other.

    `sites`: these sites. `zone`: the time zone of queries.
    """

    documents: list[Document]
    base: datetime
    zone: ZoneInfo
    sites: tuple[str, ...]
    goals: tuple[Goal, ...]

    def __repr__(self) -> str:
        """A short text: hypothesis warns about strategies with long arguments. streams() notes the documents."""
        return f"<Stream of {len(self.documents)} events>"

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(repr(self))


# Events


def _maybe(values: Sequence[Any]) -> st.SearchStrategy[Any]:
    """One of these, or None for a missing key."""
    return st.none() | st.sampled_from(values)


def _props() -> st.SearchStrategy[dict[str, Any] | None]:
    return st.none() | st.dictionaries(st.sampled_from(KEYS), st.sampled_from(SCALARS), max_size=3)


_revenues = st.builds(
    lambda amount, currency: {"amount": Decimal128(amount), "currency": currency},
    st.sampled_from(AMOUNTS),
    st.sampled_from(("USD", "USD", "JPY")),
)


@st.composite
def _fields(draw: st.DrawFn, paths: Sequence[str]) -> dict[str, Any]:
    """The fields of an event, except visitor, site and time."""
    event_type = draw(st.sampled_from(TYPES))
    fields: dict[str, Any] = {
        "event_type": event_type,
        "path": draw(st.sampled_from((*paths, None))),
        "props": draw(_props()),
    }
    for name in draw(st.lists(st.sampled_from(("hostname", *DESCRIBED)), max_size=4, unique=True)):
        fields[name] = draw(st.sampled_from(KNOWN.get(name, TEXTS)))
    if event_type == "engagement" or draw(st.integers(0, 9)) == 9:
        fields["engagement_time"] = draw(st.sampled_from((1500, 499, 500, 0, 1, 90_000, None)))
        fields["scroll_depth"] = draw(st.sampled_from((50, 99, 100, 1, 0, None)))
    if event_type not in ("engagement", "page_view"):
        fields["interactive"] = draw(st.sampled_from((None, True, False)))
        fields["revenue"] = draw(st.none() | _revenues)
    return {name: value for name, value in fields.items() if value is not None}


@st.composite
def streams(draw: st.DrawFn, most_events: int = 8, counts: Sequence[int] = (1, 1, 1, 2)) -> Stream:
    """`most_events`: the maximum per visitor. `counts`: the possible numbers of sites."""
    base = draw(st.sampled_from(BASES))
    sites = SITES[: draw(st.sampled_from(counts))]
    salt = draw(st.integers(0, 1000))
    documents: list[Document] = []
    paths = draw(st.lists(st.sampled_from(PATHS), min_size=1, max_size=4, unique=True))
    least = draw(st.sampled_from((0, 1, 2, 3)))  # by default hypothesis generates few and short visits
    for site_id in sites:
        for visitor in draw(st.lists(st.sampled_from((*VISITORS, None)), min_size=least, max_size=4, unique=True)):
            start = base + draw(st.sampled_from((1, -1))) * draw(st.sampled_from(GAPS[:-2]))
            events = draw(
                st.lists(st.tuples(st.sampled_from(GAPS), _fields(paths)), min_size=least + 1, max_size=most_events)
            )
            # A gap is the time to the visitor's next event. The gap after the last event is not used.
            for moment, (_, fields) in zip(accumulate((gap for gap, _ in events), initial=start), events, strict=False):
                whose = {} if visitor is None else {"user_id": visitor}
                documents.append(_document(UUID(int=0), site_id, moment, whose | fields))
    order = draw(st.permutations(range(9, 9 + len(documents))))  # as text, 10 is before 9
    replayed = draw(st.sets(st.integers(0, len(documents)), max_size=2))  # or imported with its earlier place
    for number, document in enumerate(documents):
        # Ids have no order, like UUIDs of version 5. Events with the same time are in order of arrival.
        document["_id"] = uuid5(UUID(int=salt), str(number))
        document["entry_id"] = f"{NOON_MS + number // 3}-{order[number]}"
        if number in replayed:
            document["sequence"] = f"{NOON_MS}-{order[number]:06}"
    note(pformat(documents))
    return Stream(documents, base, draw(st.sampled_from(ZONES)), sites, draw(goals()))


def _document(id_: UUID, site_id: str, moment: datetime, fields: dict[str, Any]) -> Document:
    return {
        "_id": id_,
        "site_id": site_id,
        "timestamp": moment,
        "received_at": moment + timedelta(seconds=1),
        "created_at": moment + timedelta(seconds=2),
        **fields,
    }


@st.composite
def goals(draw: st.DrawFn) -> tuple[Goal, ...]:
    """Goals with different names. One event may meet several."""
    some = st.sampled_from(
        (
            Goal("Sign up", event_type="signup"),
            Goal("Ünï", event_type="Signup"),
            Goal("Purchase", event_type="purchase"),
            Goal("In dollars", event_type="purchase", currency="USD"),
            Goal("Viewed", event_type="pageview"),
            Goal("Read", event_type="engagement"),
            Goal("Visit /a", page="/a"),
            Goal("Under /a", page="/a/*"),
            Goal("Below /a", page="/a/**"),
            Goal("From /a", page="/a**"),
            Goal("One part", page="/*"),
            Goal("Any page", page="**"),
            Goal("b inside", page="/**b*"),
            Goal("50%", page="/100%_'"),
        )
    )
    return tuple(
        draw(st.lists(some, min_size=draw(st.sampled_from((0, 2, 3))), max_size=4, unique_by=lambda goal: goal.name))
    )


# Queries


@st.composite
def periods(draw: st.DrawFn, stream: Stream) -> Period:
    """A period around the base: days of the zone, or two moments at or near events, or quarters of an hour near those.

    It may be empty.
    """
    today = stream.base.astimezone(stream.zone).date()
    if draw(st.booleans()):
        first = today - timedelta(days=draw(st.sampled_from((0, 1, 1, 2, 7, 28))))
        last = today + timedelta(days=draw(st.sampled_from((0, 1, 2, 9, 31, 70))))
        return of_days(first, last, stream.zone)
    moments = [document["timestamp"] for document in stream.documents] or [stream.base]
    off_by = st.sampled_from((timedelta(0), MILLISECOND, -MILLISECOND, -timedelta(minutes=20)))
    start, end = sorted(draw(st.sampled_from(moments)) + draw(off_by) for _ in range(2))
    if draw(st.booleans()):
        start, end = start - (start - EPOCH) % QUARTER_HOUR, end + draw(st.sampled_from((1, 2, 9))) * QUARTER_HOUR
        end -= (end - EPOCH) % QUARTER_HOUR
    return Period(start, end, stream.zone)


def _prop_dimensions() -> st.SearchStrategy[str]:
    return st.sampled_from(KEYS).map(lambda key: PROPS + key)


def _filtered_dimensions(stream: Stream) -> st.SearchStrategy[str]:
    named = EVENT_DIMENSIONS if stream.goals else EVENT_DIMENSIONS[1:]
    often = st.sampled_from(
        [name for name in named if name in ("event:page", "event:goal")] + ["visit:entry_page", "visit:exit_page"]
    )
    return often | st.sampled_from(named) | st.sampled_from(VISIT_DIMENSIONS) | _prop_dimensions()


def _asked_of(stream: Stream, dimension: str) -> st.SearchStrategy[str]:
    """A whole value. It is one that occurs, if there is any."""
    occurring: set[str] = set()
    for site_id in stream.sites:
        of_site = Asked(stream.documents, Query(site_id, ("visitors",), EVER))
        occurring.update(*(of_site.values(event, dimension) for event in of_site.within))
    return st.sampled_from(sorted(occurring) or [missing(dimension)]) | st.sampled_from(
        ("pageview", "page_view", "/a", "Germany")
    )


@st.composite
def conditions_of(draw: st.DrawFn, stream: Stream, dimension: str | None = None) -> Condition:
    dimension = dimension or draw(_filtered_dimensions(stream))
    sensitive = draw(st.booleans())
    if dimension == "event:goal":
        operator: Operator = draw(st.sampled_from(("is", "contains")))
        names = st.sampled_from([goal.name for goal in stream.goals])
        parts = st.sampled_from(("e", "A", "ü", "/a", "page", "%"))
        each = names if operator == "is" else names | parts
    else:
        operator = draw(st.sampled_from(("is", "contains", "matches")))
        parts = st.sampled_from([*"oAbÜжςßki%_'\\1", "/a", "(not", "set", "one"])
        each = {
            "is": _asked_of(stream, dimension),
            "contains": _asked_of(stream, dimension) | parts,
            "matches": st.sampled_from(PATTERNS),
        }[operator]
    values = draw(st.lists(each, min_size=1, max_size=3))
    return Condition(operator, dimension, tuple(values), sensitive)


@st.composite
def number_conditions(draw: st.DrawFn) -> Condition:
    """Conditions on the length of visits: at, above and below lengths that occur."""
    dimension = draw(st.sampled_from(VISIT_NUMBERS))
    seconds = {round(gap / timedelta(seconds=1)) for gap in GAPS if gap < HALF_HOUR} | {0, 8, 627, 1800}
    numbers = st.sampled_from(sorted(seconds)) if dimension == "visit:duration" else st.integers(0, 4)
    values = tuple(map(str, draw(st.lists(numbers, min_size=1, max_size=2))))
    return Condition(draw(st.sampled_from(("is", "greater", "less"))), dimension, values)


@st.composite
def filters(draw: st.DrawFn, stream: Stream, depth: int = 2, can_be_done: bool = True) -> Filter:
    """A filter with any nesting, except has_done within has_done."""
    kinds = ["condition", "condition", "not"] + ["done"] * can_be_done + ["and", "or"] * (depth > 0)
    kind = draw(st.sampled_from(kinds)) if depth >= 0 else "condition"
    inner = filters(stream, depth - 1, can_be_done and kind != "done")
    match kind:
        case "condition":
            return draw(conditions_of(stream) | conditions_of(stream) | number_conditions())
        case "not":
            return Not(draw(inner))
        case "done":
            return Done(draw(inner))
    several = tuple(draw(st.lists(inner, min_size=1, max_size=3)))
    return And(several) if kind == "and" else Or(several)


_metrics_of_numbers = st.builds("{}:props:{}".format, st.sampled_from(OF_NUMBERS), st.sampled_from(KEYS))


@st.composite
def queries(draw: st.DrawFn, stream: Stream) -> Query:
    """Any query that the parser accepts."""
    dimensions = draw(_dimensions(stream))
    asked = tuple(draw(filters(stream)) for _ in range(draw(st.sampled_from((0, 0, 1, 1, 2)))))
    dimensions_needed = {*dimensions, *(condition.dimension for condition in conditions(asked))}
    allowed: tuple[str, ...] = (*COUNTS, *OF_VISITS, *OF_MONEY)
    allowed += SHARES if dimensions else ()
    allowed += OF_PAGES if "event:page" in dimensions_needed else ()
    allowed += OF_GOALS if "event:goal" in dimensions_needed else ()
    allowed += tuple(draw(st.lists(_metrics_of_numbers, max_size=6, unique=True)))
    few = st.lists(st.sampled_from(allowed), min_size=1, max_size=5, unique=True)
    metrics = tuple(draw(st.permutations(allowed) | few))
    keys = draw(st.lists(st.sampled_from((*metrics, *dimensions)), max_size=3, unique=True))
    paged = draw(st.sampled_from((False, False, True)))
    period = draw(periods(stream))
    query = Query(
        site_id=draw(st.sampled_from(stream.sites)),
        metrics=metrics,
        period=period,
        dimensions=dimensions,
        filters=asked,
        order_by=tuple(Order(key, draw(st.booleans())) for key in keys),
        limit=draw(st.sampled_from((1, 2, 5, 100))) if paged else 10_000,
        offset=draw(st.sampled_from((0, 1, 3))) if paged else 0,
        total_rows=draw(st.booleans()),
        compare_with=draw(st.none() | periods(stream)),
        goals=stream.goals,
    )
    # Hours of two months for every group would test nothing new compared with a few days, and take long.
    brief = query.grain is not None and (query.grain != "hour" or period.days() <= 8)
    return replace(query, time_labels=brief and draw(st.booleans()))


@st.composite
def visit_queries(draw: st.DrawFn, stream: Stream) -> Query:
    """Queries about visits and visitors alone, which are answered from fewer rows."""
    dimensions = draw(
        st.lists(st.sampled_from(VISIT_DIMENSIONS), max_size=draw(st.sampled_from((0, 0, 1))), unique=True)
    )
    if draw(st.sampled_from((True, True, False))):
        dimensions.insert(draw(st.integers(0, len(dimensions))), draw(st.sampled_from(TIME_DIMENSIONS)))
    asked: list[Filter] = []
    if draw(st.sampled_from((True, False, False))):
        of_texts = st.sampled_from(VISIT_DIMENSIONS).flatmap(lambda name: conditions_of(stream, name))
        asked.append(draw(of_texts | number_conditions()))
    metrics = st.lists(st.sampled_from(("visitors", "visits", *OF_VISITS)), min_size=1, unique=True)
    site_id, goals = draw(st.sampled_from(stream.sites)), stream.goals
    return Query(site_id, tuple(draw(metrics)), draw(periods(stream)), tuple(dimensions), tuple(asked), goals=goals)


@st.composite
def _dimensions(draw: st.DrawFn, stream: Stream) -> tuple[str, ...]:
    """Up to three dimensions, at most one of them of time."""
    if draw(st.integers(0, 5)) == 5:
        return (draw(st.sampled_from(TIME_DIMENSIONS)),)
    often = [("event:goal",)] * bool(stream.goals) + [("event:page",), (), ()]
    dimensions = [*draw(st.sampled_from(often))]
    more = st.lists(_filtered_dimensions(stream), max_size=3 - len(dimensions), unique=True)
    dimensions += [dimension for dimension in draw(more) if dimension not in dimensions]
    if len(dimensions) < 3 and draw(st.booleans()):
        dimensions.insert(draw(st.integers(0, len(dimensions))), draw(st.sampled_from(TIME_DIMENSIONS)))
    return tuple(dimensions)


@st.composite
def bare_queries(draw: st.DrawFn, stream: Stream) -> Query:
    """Period and filters only: the queries of funnels, retention and journeys."""
    asked = (draw(filters(stream)),) if draw(st.sampled_from((True, False, False))) else ()
    site_id = draw(st.sampled_from(stream.sites))
    return Query(site_id, ("visitors",), draw(periods(stream)), filters=asked, goals=stream.goals)


@st.composite
def funnels(draw: st.DrawFn, stream: Stream) -> tuple[Query, list[Filter], timedelta | None]:
    """Funnels with steps that are often met, and windows as long as gaps between events."""
    often: st.SearchStrategy[Filter] = st.sampled_from(
        (
            Condition("is", "event:name", ("pageview",)),
            Condition("is", "event:name", ("signup", "Signup", "purchase")),
            Condition("contains", "event:page", ("/a",)),
            Condition("matches", "event:page", ("^/",)),
            Not(Condition("is", "event:name", ("pageview",))),
        )
    )
    steps = draw(st.lists(often | often | filters(stream), min_size=2, max_size=8))
    window = draw(st.none() | st.sampled_from([gap for gap in GAPS if gap]))
    return draw(bare_queries(stream)), steps, window


def grains() -> st.SearchStrategy[Grain]:
    return st.sampled_from(("hour", "day", "week", "month"))


def pages() -> st.SearchStrategy[str]:
    return st.sampled_from([*filter(None, PATHS)])


# Arrivals


@dataclass(frozen=True)
class Batch:
    documents: list[Document]


@dataclass(frozen=True)
class Erasure:
    site_id: str
    visitor: str


@dataclass(frozen=True)
class Arrivals:
    """`steps`: batches and erasures in order. `remaining`: the documents that exist after the last step.

    No event of an erased visitor arrives after the erasure: reports do not define the result of that.
    """

    steps: list[Batch | Erasure]
    remaining: list[Document]


@st.composite
def arrivals(draw: st.DrawFn, stream: Stream) -> Arrivals:
    """The documents in any order, some of them twice, in batches. In between or at the end some visitors are erased."""
    documents = stream.documents
    again = draw(st.lists(st.sampled_from(documents), max_size=4)) if documents else []
    order = draw(st.permutations([*documents, *again]))
    cuts = sorted(draw(st.lists(st.integers(0, len(order)), max_size=4, unique=True)))
    bounds = [0, *cuts, len(order)]
    batches = [Batch(order[first:last]) for first, last in pairwise(bounds) if first < last]
    steps: list[Batch | Erasure] = [*batches]
    visitors = sorted({_whose(document) for document in documents if "user_id" in document})
    erased = draw(st.lists(st.sampled_from(visitors), max_size=2, unique=True)) if visitors else []
    for whose in erased:
        last = max(
            place
            for place, step in enumerate(steps)
            if isinstance(step, Batch) and whose in map(_whose, step.documents)
        )
        steps.insert(draw(st.integers(last + 1, len(steps))), Erasure(*whose))
    return Arrivals(steps, [document for document in documents if _whose(document) not in erased])


def _whose(document: Document) -> tuple[str, str]:
    return document["site_id"], document.get("user_id", "")
