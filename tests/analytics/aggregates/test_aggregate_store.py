"""Daily totals in MongoDB: read, summed and removed, and two imports of the same day at once."""

from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pymongo
import pytest
from pymongo.database import Database

from analytics.aggregates.day_total import AGGREGATE_TABLES, DayTotal
from analytics.aggregates.store import AggregateStore, TooManyTotals
from analytics.unavailable import Unavailable
from footfall.embedded_servers import pick_port

BERLIN = ZoneInfo("Europe/Berlin")
PAGES = AGGREGATE_TABLES["pages"]
FIRST, LAST = date(2025, 1, 1), date(2025, 1, 31)


def page(day: int, path: str, visitors: int, host: str = "a.example") -> DayTotal:
    group = {"page": path, "hostname": host}
    return DayTotal("pages", date(2025, 1, day), path + host, group, {"visitors": visitors, "visits": 1})


@pytest.fixture
def store(database: Database[dict[str, Any]]) -> AggregateStore:
    return AggregateStore(database)


def test_totals_are_summed_by_day_and_column(store: AggregateStore, monkeypatch: pytest.MonkeyPatch):
    store.add("a", "site", BERLIN, [page(1, "/", 2), page(1, "/", 3, "b.example"), page(2, "/", 4), page(2, "/x", 5)])
    store.add("a", "other", BERLIN, [page(1, "/", 100)])
    days = store.days("site", PAGES, FIRST, LAST)
    assert days == {date(2025, 1, 1): "a", date(2025, 1, 2): "a"}
    found = store.sums("site", PAGES, days, ["day", "page"], most=10)
    kept = sorted((x["day"], x["page"], x["visitors"], x["visits"], x["engaged"]) for x in found)
    assert kept == [("2025-01-01", "/", 5, 2, 0), ("2025-01-02", "/", 4, 1, 0), ("2025-01-02", "/x", 5, 1, 0)]
    with pytest.raises(TooManyTotals):
        store.sums("site", PAGES, days, ["day", "page"], most=2)
    monkeypatch.setattr("analytics.aggregates.store._MOST_TEXT", 20)
    with pytest.raises(TooManyTotals):
        store.sums("site", PAGES, days, ["day", "page"], most=10)
    assert store.days("site", AGGREGATE_TABLES["total"], FIRST, LAST) == {}
    assert store.days("site", PAGES, date(2025, 1, 2), LAST) == {date(2025, 1, 2): "a"}


def test_a_total_that_is_stored_again_replaces_the_first(store: AggregateStore):
    store.add("a", "site", BERLIN, [page(1, "/", 2)])
    store.add("a", "site", BERLIN, [page(1, "/", 3)])
    assert [x["visitors"] for x in store.sums("site", PAGES, {date(2025, 1, 1): "a"}, [], most=10)] == [3]
    store.add("a", "site", BERLIN, [])
    assert store.count("a") == 1


def test_if_two_imports_bring_a_day_at_the_same_time_one_of_them_counts(store: AggregateStore):
    """The importer leaves out days of other imports, but two imports that run at once do not see each other."""
    store.add("b", "site", BERLIN, [page(1, "/", 50), page(2, "/", 60)])
    store.add("a", "site", BERLIN, [page(1, "/", 5)])
    days = store.days("site", PAGES, FIRST, LAST)
    assert days == {date(2025, 1, 1): "a", date(2025, 1, 2): "b"}
    assert sorted(x["visitors"] for x in store.sums("site", PAGES, days, ["day"], most=10)) == [5, 60]
    assert store.days_of_others("site", "a") == {("pages", date(2025, 1, 1)), ("pages", date(2025, 1, 2))}
    assert [*store.remove("a")] == [1]
    assert store.days("site", PAGES, FIRST, LAST) == {date(2025, 1, 1): "b", date(2025, 1, 2): "b"}


def test_days_from_before_a_moment_are_removed(store: AggregateStore):
    store.add("a", "site", BERLIN, [page(1, "/", 2), page(2, "/", 3), page(3, "/", 4)])
    midnight = datetime(2025, 1, 2, 23, tzinfo=UTC)
    assert store.count_old("site", midnight) == 2
    assert (sum(store.remove_old("site", midnight)), store.count("a")) == (2, 1)
    assert sum(store.remove_old("other", midnight)) == 0


@pytest.mark.usefixtures("usual_limits")
@pytest.mark.parametrize(
    "use",
    [
        lambda store: store.add("a", "site", BERLIN, [page(1, "/", 2)]),
        lambda store: store.days("site", PAGES, FIRST, LAST),
        lambda store: store.sums("site", PAGES, {FIRST: "a"}, [], most=1),
        lambda store: store.extent(["site"]),
        lambda store: store.count("a"),
        lambda store: [*store.remove("a")],
    ],
)
def test_a_store_that_is_not_reachable_is_named(use: Callable[[AggregateStore], object]):
    uri = f"mongodb://127.0.0.1:{pick_port(0)}/?serverSelectionTimeoutMS=200"
    with pymongo.MongoClient[dict[str, Any]](uri) as client, pytest.raises(Unavailable, match="mongodb"):
        use(AggregateStore(client["footfall"]))
