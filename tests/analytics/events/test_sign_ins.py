"""Anonymous events of a visit count for the user who signs in during it. Events pass the collector and the pipeline."""

import json
import random
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from flask.testing import FlaskClient
from msgspec.structs import replace
from pymongo.database import Database
from redis import Redis

from analytics.events.schema import load_event
from analytics.events.sign_ins import RESTED, SignIns
from analytics.pipeline import store_waiting
from analytics.privacy.visitor import Visitor
from analytics.queries.query import Condition, Query, of_days
from analytics.reports import filtered_events
from analytics.reports.engine import Reports
from analytics.sites.site import Site
from analytics.unavailable import Unavailable
from config.services import Services
from config.settings import Settings
from ingest_app import create_app
from report_app import create_app as create_report_app
from tests.support.services import ADMIN_KEY, NOW, WakeUps

FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0"
CHROME = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36"
ANY = {"site_id": "shop", "event_type": "pageview"}


@dataclass
class Shop:
    """A site that assigns visits, if it is not said otherwise. Times are minutes before NOW."""

    services: Services
    ingest: FlaskClient

    def send(self, minutes_ago: float, path: str, user_id: str | None = None, browser: str = FIREFOX, **more: Any):
        when = (NOW - timedelta(minutes=minutes_ago)).isoformat()
        event = ANY | {"path": path, "user_id": user_id, "timestamp": when, "event_id": path} | more
        assert self.ingest.post("/event", json=event, headers={"User-Agent": browser}).status_code == 200

    def store(self) -> None:
        while self.services.journal.waiting():
            store_waiting(self.services.stores, "test")

    def assign(self) -> int:
        self.store()
        return self.services.sign_ins.assign_due(lambda: NOW + RESTED)

    def users(self) -> dict[str, str | None]:
        found = self.services.database["events"].find({}).sort("path", 1)
        return {event["path"]: event.get("user_id") for event in found}


@pytest.fixture
def shop(settings: Settings, redis: Redis, database: Database[dict[str, Any]], wake_ups: WakeUps) -> Iterator[Shop]:
    with closing(Services(settings, now=lambda: NOW)) as services:
        services.sites.put(Site("shop", assigns_visits=True, shows_visitors=True))
        services.segments.backfill.note_if_there_is_none()
        yield Shop(services, create_app(settings, services, wake_ups).test_client())


def test_only_the_anonymous_events_of_the_visit_are_assigned(shop: Shop):
    shop.send(200, "/visit before")
    shop.send(100, "/a")
    shop.send(80, "/of another browser", browser=CHROME)
    shop.send(75, "/b")
    shop.send(50, "/login", "ann")
    shop.send(45, "/c")
    shop.send(5, "/visit after")
    assert shop.assign() == 3
    ann = {"/a": "ann", "/b": "ann", "/c": "ann", "/login": "ann"}
    assert shop.users() == ann | {"/of another browser": None, "/visit after": None, "/visit before": None}
    assert shop.assign() == 0


def test_an_address_that_two_users_share_is_never_assigned_not_even_in_retrospect(shop: Shop):
    shop.send(300, "/a")
    shop.send(299, "/ann", "ann")
    assert shop.assign() == 1
    shop.send(100, "/b")
    shop.send(99, "/ben", "ben")
    assert shop.assign() == 1
    assert shop.users() == {"/a": None, "/ann": "ann", "/b": None, "/ben": "ben"}
    shop.send(98, "/ann again", "ann")
    assert shop.assign() == 0


def test_a_site_that_does_not_assign_visits_keeps_nothing_of_a_sign_in(shop: Shop):
    shop.services.sites.put(Site("blog"))
    shop.send(10, "/a", site_id="blog")
    shop.send(9, "/login", "ann", site_id="blog")
    assert shop.assign() == 0
    assert shop.users() == {"/a": None, "/login": "ann"}
    assert shop.services.database["events"].find_one({"path": "/login", "visitor_id": {"$exists": True}}) is None
    assert shop.services.database["sign_ins"].count_documents({}) == 0


def test_sign_ins_of_long_ago_make_no_note_of_a_long_time(shop: Shop):
    """An event of long ago has the visitor of today. All events between two sign-ins of a visitor are read."""
    shop.send(20 * 24 * 60, "/long ago", "ann")
    shop.send(9, "/a")
    shop.send(8, "/login", "ann")
    assert shop.assign() == 1
    (note,) = shop.services.database["sign_ins"].find()
    assert note["last"] - note["first"] <= timedelta(days=1)
    assert shop.users() == {"/long ago": "ann", "/a": "ann", "/login": "ann"}


def test_a_note_that_cannot_be_worked_off_does_not_stop_the_others(shop: Shop, monkeypatch: pytest.MonkeyPatch):
    shop.send(9, "/a")
    shop.send(8, "/login", "ann")
    shop.send(7, "/b", browser=CHROME)
    shop.send(6, "/login too", "ben", browser=CHROME)
    shop.store()
    sign_ins = shop.services.sign_ins
    first = shop.services.database["sign_ins"].find_one({}, sort=[("pending_since", 1)])["_id"]
    work_off = sign_ins._work_off

    def slow(key: dict[str, str], now: datetime) -> int:
        if key == first:
            raise Unavailable("mongodb", TimeoutError("too many events"))
        return work_off(key, now)

    monkeypatch.setattr(sign_ins, "_work_off", slow)
    assert sign_ins.assign_due(lambda: NOW + RESTED) == 1
    monkeypatch.undo()
    assert sign_ins.assign_due(lambda: NOW + RESTED) == 0, "it is its turn later"
    assert sign_ins.assign_due(lambda: NOW + 2 * RESTED) == 1


def test_late_events_and_any_order_of_storing_and_assigning_give_the_same(shop: Shop):
    visits = [(300, "/1", None), (275, "/2", None), (250, "/3", "ann"), (225, "/4", None), (200, "/5", None),
              (100, "/6", None), (60, "/7", "ann"), (35, "/8", None), (4, "/9", None)]  # fmt: skip
    wanted = {f"/{n}": "ann" for n in (1, 2, 3, 4, 5, 7, 8)} | {"/6": None, "/9": None}
    for seed in range(8):
        chance = random.Random(seed)
        shop.services.database["events"].delete_many({})
        shop.services.database["sign_ins"].delete_many({})
        for event in chance.sample(visits, len(visits)):
            shop.send(*event, event_id=f"{seed} {event[1]}")
            if chance.random() < 0.5:
                shop.assign()
        shop.assign()
        assert shop.users() == wanted, seed


def test_two_workers_at_once_and_an_event_in_between_give_the_same(shop: Shop):
    for number in range(10):
        shop.send(100 - number, f"/{number}", None if number % 5 else "ann")
    shop.store()
    threads = [threading.Thread(target=shop.assign) for _ in range(3)]
    for thread in threads:
        thread.start()
    shop.send(80, "/late")
    for thread in threads:
        thread.join()
    shop.assign()
    assert set(shop.users().values()) == {"ann"}


def test_a_worker_that_dies_before_it_notes_a_sign_in_notes_it_when_the_event_is_delivered_again(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
):
    shop.send(10, "/a")
    shop.send(9, "/login", "ann")

    class Died(BaseException):
        pass

    def die(*_: Any) -> None:
        raise Died

    with monkeypatch.context() as broken:
        broken.setattr(shop.services.sign_ins, "note", die)
        with pytest.raises(Died):
            shop.store()
    assert shop.services.database["events"].count_documents({}) == 2
    assert shop.assign() == 1


def test_reports_and_rebuilt_segments_count_one_visitor_and_one_visit(shop: Shop, settings: Settings):
    shop.send(20, "/a")
    shop.store()
    shop.services.segments.builder.build_site("shop", everything=True)
    shop.send(10, "/login", "ann")
    report = create_report_app(settings, shop.services).test_client()

    def figures() -> Sequence[float]:
        asked = {"site_id": "shop", "date_range": "all", "metrics": ["visitors", "visits", "pageviews"]}
        answer = report.post("/api/v2/query", json=asked, headers={"Authorization": f"Bearer {ADMIN_KEY}"})
        found: Sequence[float] = answer.json["results"][0]["metrics"]
        return found

    shop.store()
    assert figures() == [2, 2, 2]
    shop.assign()
    assert figures() == [1, 1, 2]
    shop.services.segments.builder.build_site("shop", everything=True)
    assert figures() == [1, 1, 2]


def exported(shop: Shop, settings: Settings) -> list[dict[str, Any]]:
    """The events of the type `seen`."""
    asked = {"site_id": "shop", "filters": '[["is", "event:name", ["seen"]]]'}
    report = create_report_app(settings, shop.services).test_client()
    answer = report.get("/export/events", query_string=asked, headers={"Authorization": f"Bearer {ADMIN_KEY}"})
    return [json.loads(line) for line in answer.text.splitlines()]


def test_an_export_with_filters_has_the_events_that_are_assigned_while_it_runs(
    shop: Shop, settings: Settings, monkeypatch: pytest.MonkeyPatch
):
    shop.send(20, "/a", event_type="seen")
    shop.send(20, "/login", "ann", event_type="seen")
    shop.send(19, "/b", event_type="seen")
    shop.send(19, "/c")
    shop.store()
    write, assigned = Reports.write_places, []

    def write_and_assign(*given: Any) -> datetime | None:
        as_of = write(*given)
        assigned.append(shop.assign())
        return as_of

    monkeypatch.setattr(Reports, "write_places", write_and_assign)
    events = exported(shop, settings)
    assert assigned == [3, 0]
    assert [(event["path"], event["user_id"]) for event in events] == [("/a", "ann"), ("/login", "ann"), ("/b", "ann")]


def test_an_export_with_filters_has_the_events_that_lose_their_user_while_it_runs(
    shop: Shop, settings: Settings, monkeypatch: pytest.MonkeyPatch
):
    """The places of the events were found before a second user signed in at the same address."""
    monkeypatch.setattr(filtered_events, "PLACES_AT_ONCE", 1)
    shop.send(21, "/first", event_type="seen", browser=CHROME)
    shop.send(20, "/a", event_type="seen")
    shop.send(20, "/other", browser=CHROME)
    shop.send(19, "/login", "ann", event_type="seen")
    shop.send(18, "/b", event_type="seen")
    assert shop.assign() == 2
    write, found = Reports.write_places, []

    def write_and_share(*given: Any) -> datetime | None:
        as_of = write(*given)
        found.append(as_of)
        if len(found) == 1:
            shop.send(17, "/ben", "ben")
            assert shop.assign() == 2
        return as_of

    monkeypatch.setattr(Reports, "write_places", write_and_share)
    events = exported(shop, settings)
    assert [(event["path"], event.get("user_id")) for event in events] == [
        ("/first", None), ("/a", None), ("/login", "ann"), ("/b", None),
    ]  # fmt: skip
    assert len(found) == 2, "all places were found again once"


@pytest.mark.parametrize("is_lost", [False, True])
def test_an_export_with_filters_does_not_take_a_sign_in_for_another_event_of_its_millisecond(
    shop: Shop, settings: Settings, monkeypatch: pytest.MonkeyPatch, is_lost: bool
):
    """While it runs, the anonymous event becomes the user's, or a second user signs in and it is anonymous again."""
    wanted, other = {"event_type": "seen"}, {}
    shop.send(20, "/a", **(wanted if is_lost else other))
    shop.send(20, "/login", "ann", **(other if is_lost else wanted))
    shop.store()
    if is_lost:
        assert shop.assign() == 1
    write, found = Reports.write_places, []

    def write_and_change(*given: Any) -> datetime | None:
        as_of = write(*given)
        found.append(as_of)
        if len(found) == 1:
            if is_lost:
                shop.send(17, "/ben", "ben")
            assert shop.assign() == 1
        return as_of

    monkeypatch.setattr(Reports, "write_places", write_and_change)
    (event,) = exported(shop, settings)
    assert (event["path"], event.get("user_id")) == (("/a", None) if is_lost else ("/login", "ann"))
    assert len(found) == 2


def test_an_export_with_filters_ends_if_another_program_deletes_an_event_of_a_segment(shop: Shop):
    shop.send(20, "/a", event_type="seen")
    shop.send(20, "/other", browser=CHROME)
    shop.send(19, "/b", event_type="seen")
    shop.store()
    shop.services.segments.builder.build_site("shop", everything=True)
    shop.services.database["events"].delete_one({"path": "/a"})
    reports, events = shop.services.reports, shop.services.events
    period = of_days((NOW - timedelta(days=1)).date(), NOW.date(), ZoneInfo("UTC"))
    query = Query("shop", ("events",), period, filters=(Condition("is", "event:name", ("seen",)),))
    found = filtered_events.filtered_events(reports, events, query, reports.budget(), lambda: NOW)
    assert [event.path for event in found] == ["/b"]


def test_an_erased_user_loses_the_assigned_events_too_and_gets_no_more(shop: Shop):
    shop.send(20, "/a")
    shop.send(10, "/login", "ann")
    shop.assign()
    ann = Visitor("shop", user_id="ann")
    exported = b"".join(shop.services.eraser.data.export(ann))
    assert (exported.count(b'"/a"'), exported.count(b'"assigned": true')) == (1, 1)
    shop.send(8, "/b")
    shop.store()
    assert shop.services.eraser.erase(ann).events == 2
    assert shop.assign() == 0
    assert shop.users() == {"/b": None}
    assert "ann" not in str(list(shop.services.database["sign_ins"].find({})))
    shop.send(5, "/ben", "ben")
    assert shop.assign() == 0, "the visitor_id was another user's"


def test_a_note_that_is_worked_off_during_an_erasure_hides_no_event_from_it(shop: Shop):
    shop.send(20, "/a")
    shop.send(10, "/login", "ann")
    shop.assign()
    shop.send(8, "/b")
    shop.store()
    shop.services.sign_ins.forget("shop", user_id="ann", visitor_id=None)
    assert shop.assign() == 0
    assert shop.users() == {"/a": "ann", "/b": None, "/login": "ann"}
    assert shop.services.eraser.erase(Visitor("shop", user_id="ann")).events == 2


def test_an_erasure_during_an_assignment_leaves_nothing(shop: Shop):
    """The user is erased after the assignment has read the events, and before it writes."""
    shop.send(20, "/a")
    shop.send(10, "/login", "ann")
    shop.store()
    ann, sign_ins = Visitor("shop", user_id="ann"), shop.services.sign_ins
    around, threads = sign_ins._around, []

    def erased_meanwhile(*args: Any) -> Any:
        found = around(*args)
        if not threads:
            threads.append(threading.Thread(target=lambda: shop.services.eraser.erase(ann)))
            threads[0].start()
            threads[0].join(2)  # it waits for the transaction, or is done
        return found

    sign_ins._around = erased_meanwhile  # type: ignore[method-assign]
    shop.assign()
    threads[0].join()
    assert set(shop.users().values()) <= {None}


def test_a_browser_of_segment_signs_in(shop: Shop):
    headers = {"User-Agent": FIREFOX}
    page = {"type": "page", "anonymousId": "x", "messageId": "1", "properties": {"path": "/a"}}
    login = {"type": "identify", "userId": "ann", "messageId": "2", "context": {"page": {"path": "/login"}}}
    for message in (page, login):
        body = {"batch": [message], "writeKey": "shop"}
        assert shop.ingest.post("/v1/batch", json=body, headers=headers).json["accepted"] == 1
    assert shop.assign() == 1
    assert shop.users() == {"/a": "ann", "/login": "ann"}


def test_messages_of_segment_with_only_an_anonymous_id_are_anonymous_and_name_no_user(shop: Shop):
    """Two anonymousIds of one browser are one visitor. Those of a server without an address are no visitor."""
    seen = [
        {"type": "page", "anonymousId": name, "messageId": name, "properties": {"path": f"/{name}"}} for name in "xy"
    ]
    people = [{"type": kind, "anonymousId": "x", "messageId": kind} for kind in ("identify", "alias")]
    of_server = [seen[0] | {"messageId": "z"}]
    for agent, messages, counts in ((FIREFOX, [*seen, *people], (2, 2)), ("analytics-python/2.4.0", of_server, (1, 0))):
        body = {"batch": messages, "writeKey": "shop"}
        answer = shop.ingest.post("/v1/batch", json=body, headers={"User-Agent": agent}).json
        assert (answer["accepted"], answer["dropped"]) == counts
    assert shop.assign() == 0
    stored = list(shop.services.database["events"].find({}, {"_id": 0, "user_id": 1, "visitor_id": 1}))
    assert [event.get("user_id") for event in stored] == [None] * 3
    assert len({event["visitor_id"] for event in stored if "visitor_id" in event}) == 1
    assert sum("visitor_id" in event for event in stored) == 2


def test_a_sign_in_without_events_is_not_kept(shop: Shop, database: Database[dict[str, Any]]):
    shop.send(10, "/login", "ann")
    shop.store()
    assert not shop.services.sign_ins.is_any_due(NOW)
    assert shop.services.sign_ins.is_any_due(NOW + RESTED)
    database["events"].delete_many({})
    assert shop.assign() == 0
    assert database["sign_ins"].count_documents({}) == 0
    assert not shop.services.sign_ins.is_any_due(datetime.max.replace(tzinfo=NOW.tzinfo))


def test_each_site_of_a_batch_is_asked_once_whether_it_assigns_visits(database: Database[dict[str, Any]]):
    asked = list[str]()

    def assigns(site_id: str) -> bool:
        asked.append(site_id)
        return True

    events = [load_event(ANY | {"site_id": site_id}, NOW) for site_id in ("shop", "blog") for _ in range(3)]
    SignIns(database, assigns).note([replace(event, visitor_id="1") for event in events], NOW)
    assert sorted(asked) == ["blog", "shop"]
