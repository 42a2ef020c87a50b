"""Erasing a visitor's data leaves nothing anywhere, also if processes crash.

Reports then answer as if the visitor had never existed.
"""

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from msgspec import structs
from pymongo.database import Database
from redis import Redis

from analytics.events.removal import ERASED, PURGED, Removals
from analytics.events.schema import load_event
from analytics.interval import SEGMENT_GRAINS, SegmentGrain, as_ms, interval_of
from analytics.journal.audit import Audited, audit
from analytics.journal.journal import JOURNAL_KEY, Journal, Line
from analytics.journal.ledger import Ledger
from analytics.journal.replay import replay_edited
from analytics.pipeline import Outcome, Stores, _prepare, _store, store_waiting
from analytics.privacy.eraser import Eraser
from analytics.privacy.local_copies import Forgetter
from analytics.privacy.visitor import Visitor, visitors_in
from analytics.privacy.visitor_data import Found
from analytics.segments.engine import Segments
from config.settings import Settings
from footfall.privacy import visitors_group
from report_app import Services
from tests.analytics.reports.test_reports_oracle import as_oracle_says
from tests.support import oracle
from tests.support.running_system import own_environment, wait_for
from tests.support.services import ADMIN_KEY, NOW, make_services
from tests.support.streams import VISITORS, queries, streams

HEADERS = {"Authorization": f"Bearer {ADMIN_KEY}"}
ANN = Visitor("shop", user_id="ann")
NOTHING = Found(0, 0, 0, 0)
RECEIVED = datetime(2026, 11, 21, tzinfo=UTC)


@pytest.fixture
def eraser(services: Services) -> Eraser:
    """An eraser that removes files without waiting for queries to end."""
    rewriter = replace(services.eraser.rewriter, kept_for=timedelta(0))
    return replace(services.eraser, rewriter=rewriter)


@pytest.fixture
def segments(eraser: Eraser) -> Segments:
    return eraser.data.segments


@pytest.fixture
def audited(redis: Redis, database: Database, stores: Stores) -> Audited:
    return Audited(Ledger(redis, database), stores.journal, stores.events, stores.dead_letters)


def send(journal: Journal, *bodies: dict[str, Any], received_at: datetime = RECEIVED) -> None:
    given = ({"site_id": "shop", "event_type": "pageview", "user_id": "ann", **body} for body in bodies)
    journal.append([Line.of(load_event(body, received_at)) for body in given])


def drain(stores: Stores) -> None:
    while stores.journal.waiting():
        store_waiting(stores, "task")


def at(day: int, hour: int = 10, minute: int = 0) -> str:
    return f"2026-11-{day:02}T{hour:02}:{minute:02}:00Z"


def three_days(stores: Stores, segments: Segments) -> None:
    """Events of ann and bob, in segments except for the last day."""
    for day in (3, 4, 5):
        send(stores.journal, *({"user_id": u, "timestamp": at(day, 10, n)} for n, u in enumerate(["ann", "bob"] * 5)))
        drain(stores)
        if day < 5:
            grain: SegmentGrain = "hour" if day == 3 else "day"
            segments.builder.build("shop", grain, interval_of(grain, as_ms(datetime(2026, 11, day, 10, tzinfo=UTC))))


def finish(eraser: Eraser) -> None:
    """Rewrites segments only, because a rewrite of Redis's file takes two seconds more."""
    wait_for(lambda: eraser.rewriter.rewrite_due() or not eraser.removals.is_rewrite_owed(), "new segments")
    wait_for(lambda: eraser.rewriter.rewrite_due() or not eraser.removals.is_rewrite_owed(), "the end of the old ones")


def test_a_visitor_is_removed_from_events_segments_and_copies_and_no_other_visitor_is(
    stores: Stores, eraser: Eraser, segments: Segments, audited: Audited, database: Database
):
    three_days(stores, segments)
    assert eraser.data.search(ANN) == Found(events=15, segments=2, dead_letters=0, journal=0)
    before = set(segments.store.versions("shop"))
    erased = eraser.erase(ANN)
    assert (erased.events, erased.dead_letters, erased.waiting) == (15, 0, 0)
    assert eraser.data.search(ANN) == Found(events=0, segments=2, dead_letters=0, journal=0)
    finish(eraser)
    assert eraser.data.search(ANN) == NOTHING
    assert eraser.data.search(Visitor("shop", user_id="bob")) == Found(15, 2, 0, 0)
    assert not before & set(segments.store.versions("shop")), "the old files are gone"
    assert {path.stem for path in segments.store.folder.glob("*.parquet")} <= set(segments.store.versions("shop"))
    assert audit(audited).faults == []
    assert list(database["segment_rewrites"].find()) == []


def test_the_same_name_on_another_site_is_another_visitor(stores: Stores, eraser: Eraser):
    send(stores.journal, {}, {"site_id": "other"})
    drain(stores)
    eraser.erase(ANN)
    assert eraser.data.search(Visitor("other", user_id="ann")).events == 1


def test_an_anonymous_visitor_is_erased_by_the_id_of_the_day(stores: Stores, eraser: Eraser, segments: Segments):
    event = structs.replace(load_event({"site_id": "shop", "event_type": "pageview"}, RECEIVED), visitor_id="0a1b2c")
    stores.journal.append([Line.of(event)])
    drain(stores)
    segments.builder.build("shop", "day", interval_of("day", as_ms(RECEIVED)))
    nobody = Visitor("shop", visitor_id="0a1b2c")
    assert eraser.data.search(nobody) == Found(1, 1, 0, 0)
    eraser.erase(nobody)
    finish(eraser)
    assert eraser.data.search(nobody) == NOTHING


def refuse_dead_letters(stores: Stores, redis: Redis) -> None:
    """Dead letters: ann's, in six forms, and three of other visitors."""
    theirs = [
        {"site_id": "shop", "user_id": "ann"},
        {"site_id": "shop", "user_id": "ann", "event_type": "a", "props": {"ann": {}}},
        {"site_id": "shop", "user_id": "ann", "event_type": 17},
    ]
    others = [
        {"site_id": "shop", "user_id": "bob", "props": {"friend": "ann"}},
        {"site_id": "other", "user_id": "ann"},
        {"site_id": "shop", "user_id": "anna"},
    ]
    for body in (*theirs, *others):
        redis.xadd(JOURNAL_KEY, {"event": json.dumps(body)})
    redis.xadd(JOURNAL_KEY, {"event": json.dumps([{"site_id": "shop", "user_id": "ann"}])})
    redis.xadd(JOURNAL_KEY, {"event": '{"site_id": "shop", "user_id": "ann"'})
    redis.xadd(JOURNAL_KEY, {"evnt": '{"user_id": "ann"}'})
    drain(stores)


def test_dead_letters_are_erased_by_what_their_payload_says(
    stores: Stores, eraser: Eraser, redis: Redis, audited: Audited, database: Database
):
    refuse_dead_letters(stores, redis)
    assert database["dead_letters"].count_documents({}) == 9
    assert eraser.data.search(ANN).dead_letters == 6
    assert eraser.erase(ANN).dead_letters == 6
    left = [json.loads(letter["raw"]) for letter in database["dead_letters"].find()]
    assert sorted((x["site_id"], x["user_id"]) for x in left) == [("other", "ann"), ("shop", "anna"), ("shop", "bob")]
    assert audit(audited).faults == []


@pytest.mark.parametrize(
    ("raw", "site_id", "is_hers"),
    [
        ({"site_id": "shop", "user_id": "ann"}, "shop", True),
        ({"user_id": "ann"}, "shop", True),
        ({"user_id": "ann"}, "", False),
        ({"site_id": "shop", "visitor_id": "ann"}, "shop", False),
        ({"site_id": "shop", "user_id": "ann ", "props": {"user_id": "ann"}}, "shop", False),
        ([["ann"]], "", True),
        ([["ann"]], "other", False),
        ("ann", "shop", True),
        (["anna"], "shop", False),
        ({"site_id": "shop", "user_id": ["ann"]}, "shop", False),
    ],
)
def test_the_visitors_of_a_payload_are_found(raw: object, site_id: str, is_hers: bool):
    assert ANN.is_in(json.dumps(raw).encode(), site_id) == is_hers


def test_a_number_for_a_user_id_is_the_visitor_of_that_name():
    raw = b'{"site_id": "shop", "user_id": 17}'
    assert Visitor("shop", user_id="17").is_in(raw, "shop")
    assert visitors_in(raw, "shop") == [Visitor("shop", user_id="17")]


@pytest.mark.parametrize("names", [{}, {"user_id": "a", "visitor_id": "b"}, {"user_id": ""}])
def test_a_visitor_has_one_name(names: dict[str, str]):
    with pytest.raises(ValueError, match="either"):
        Visitor("shop", **names)
    with pytest.raises(ValueError, match="site"):
        Visitor("", user_id="ann")
    assert "ann" not in repr(ANN)


# Events on their way


def test_events_waiting_in_the_journal_are_erased_when_a_worker_stores_them(
    stores: Stores, eraser: Eraser, audited: Audited, database: Database, redis: Redis
):
    send(stores.journal, {}, {"user_id": "bob"})
    redis.xadd(JOURNAL_KEY, {"event": json.dumps({"site_id": "shop", "user_id": "ann"})})
    stores = replace(stores, now=lambda: datetime.now(UTC))
    assert eraser.data.search(ANN) == Found(0, 0, 0, journal=2)
    assert eraser.erase(ANN).waiting == 2
    eraser.finish()
    assert eraser.erasures.is_any_unfinished(), "Redis's file is written anew when nothing of it waits"
    drain(stores)
    assert eraser.data.search(ANN) == NOTHING
    assert [document["user_id"] for document in database["events"].find()] == ["bob"]
    assert audit(audited).faults == []


class Before:
    """Calls `first` once before a store's method."""

    def __init__(self, act: Callable[..., Any], first: Callable[[], object]) -> None:
        self.act, self.first = act, first

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.first, first = (lambda: None), self.first
        first()
        return self.act(*args, **kwargs)


@pytest.mark.parametrize("step", ["claimed", "stored", "kept", "checked"])
def test_an_erasure_at_any_step_of_a_batch_erases_all_events(
    stores: Stores, eraser: Eraser, audited: Audited, database: Database, step: str
):
    send(stores.journal, {"event_id": "1"}, {"event_id": "1"}, {}, {"user_id": "bob"})
    stores.journal._redis.xadd(JOURNAL_KEY, {"event": json.dumps({"site_id": "shop", "user_id": "ann"})})
    erase = lambda: eraser.erase(ANN)  # noqa: E731
    match step:
        case "claimed":
            stores.events.store = Before(stores.events.store, erase)
        case "stored":
            stores.dead_letters.keep = Before(stores.dead_letters.keep, erase)
        case "kept":
            stores.removed.erasures.since = Before(stores.removed.erasures.since, erase)
        case "checked":
            stores.dead_letters.resolve = Before(stores.dead_letters.resolve, erase)
    stores = replace(stores, now=lambda: datetime.now(UTC))
    drain(stores)
    assert eraser.data.search(ANN) == NOTHING
    assert [document["user_id"] for document in database["events"].find()] == ["bob"]
    assert audit(audited).faults == []


def test_events_that_the_visitor_sends_after_the_erasure_are_counted(stores: Stores, eraser: Eraser, audited: Audited):
    eraser.erase(ANN)
    send(stores.journal, {}, received_at=datetime.now(UTC) + timedelta(seconds=5))
    drain(stores)
    assert eraser.data.search(ANN).events == 1
    eraser.erase(ANN)
    assert audit(audited).faults == []


@pytest.mark.parametrize("why", [ERASED, PURGED])
def test_a_killed_or_slow_worker_does_not_restore_removed_events(
    stores: Stores, database: Database, audited: Audited, journal: Journal, why: str
):
    send(journal, {"event_id": "1"}, received_at=datetime.now(UTC))
    stores = replace(stores, now=lambda: datetime.now(UTC))

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    settle, journal.settle = journal.settle, die
    with pytest.raises(KeyboardInterrupt):
        store_waiting(stores, "task")
    (document,) = database["events"].find()
    assert Removals(database).remove([document["_id"]], {}, why, datetime.now(UTC), journal.oldest()) == 1
    with pytest.raises(KeyboardInterrupt):
        store_waiting(stores, "task")
    journal.settle = settle
    store_waiting(stores, "task")
    assert (journal.waiting(), database["events"].count_documents({})) == (0, 0)
    assert audit(audited).faults == []


@pytest.mark.parametrize("why", [ERASED, PURGED])
def test_a_slow_worker_does_not_restore_a_duplicate_of_a_removed_event(
    stores: Stores, database: Database, audited: Audited, journal: Journal, why: str
):
    """The slow worker claims both events, and another worker takes them over and settles them.

    Then the event is removed, and the slow worker continues.
    """
    send(journal, {"event_id": "1"}, {"event_id": "1"}, received_at=datetime.now(UTC))
    stores = replace(stores, now=lambda: datetime.now(UTC))
    journal.held("nobody")  # creates the group
    entries = journal.claim("slow")
    assert _store(stores, "other", entries) == Outcome(stored=1, duplicate=1)
    (document,) = database["events"].find()
    assert Removals(database).remove([document["_id"]], {}, why, datetime.now(UTC), journal.oldest()) == 1
    _store(stores, "slow", entries[1:])
    assert (journal.waiting(), database["events"].count_documents({})) == (0, 0)
    assert audit(audited).faults == []


@pytest.mark.parametrize("why", [ERASED, PURGED])
def test_a_removed_event_that_is_sent_again_is_stored_once_and_the_first_one_still_counts(
    stores: Stores, database: Database, audited: Audited, journal: Journal, why: str
):
    send(journal, {"event_id": "1"}, received_at=datetime.now(UTC))
    stores = replace(stores, now=lambda: datetime.now(UTC))
    journal.held("nobody")  # creates the group
    entries = journal.claim("killed")
    ready = _prepare(stores, entries)
    stores.events.store([(entry.entry_id, event) for entry, event in ready.good], ready.now)  # and settles nothing
    (document,) = database["events"].find()
    assert Removals(database).remove([document["_id"]], {}, why, datetime.now(UTC), journal.oldest()) == 1
    send(journal, {"event_id": "1"}, received_at=datetime.now(UTC))
    assert _store(stores, "other", journal.claim("other")) == Outcome(stored=1)
    assert _store(stores, "killed", entries) == Outcome(stored=1)
    assert database["events"].count_documents({}) == 1
    assert audit(audited).faults == []


def test_a_replay_of_an_erased_letter_is_erased_too(stores: Stores, eraser: Eraser, redis: Redis, database: Database):
    redis.xadd(JOURNAL_KEY, {"event": json.dumps({"site_id": "shop", "user_id": "ann"})})
    drain(stores)
    (letter,) = eraser.data.letters(ANN)
    eraser.erase(ANN)
    replay_edited(stores.journal, letter, {"site_id": "shop", "user_id": "ann", "event_type": "a"})
    drain(stores)
    assert eraser.data.search(ANN) == NOTHING


# Crashes


def steps_of(eraser: Eraser) -> list[Callable[[], object]]:
    return [
        lambda: eraser.note(ANN),
        lambda: eraser.erase_letters(ANN),
        lambda: eraser.erase_events(ANN),
        eraser.finish,
    ]


@pytest.mark.parametrize("order", list(itertools.permutations(range(4)))[::3], ids=str)
def test_the_steps_of_an_erasure_may_run_in_any_order_before_all_of_them_run(
    stores: Stores, eraser: Eraser, redis: Redis, audited: Audited, order: tuple[int, ...]
):
    three_days(stores, eraser.data.segments)
    refuse_dead_letters(stores, redis)
    send(stores.journal, {})
    for step in order:
        steps_of(eraser)[step]()
    drain(replace(stores, now=lambda: datetime.now(UTC)))
    eraser.erase(ANN)
    finish(eraser)
    assert eraser.data.search(ANN) == NOTHING
    assert audit(audited).faults == []


def has_begun(process: subprocess.Popen, database: Database) -> bool:
    return process.poll() is not None or database["erasures"].find_one({"is_done": False}) is not None


ERASE = "-m footfall visitors erase --site shop --user ann --yes --wait 60"


@pytest.mark.timeout(180)
def test_an_erasure_that_is_killed_repeatedly_is_complete_in_the_end(
    stores: Stores, eraser: Eraser, settings: Settings, audited: Audited, database: Database
):
    for hour in range(8):
        send(
            stores.journal,
            *(
                {"user_id": "ann" if n % 2 else f"u{n}", "timestamp": at(3, hour, n % 60), "path": f"/{n}"}
                for n in range(1000)
            ),
        )
        drain(stores)
    eraser.data.segments.builder.build_site("shop", everything=True)
    environment = own_environment() | settings.as_environment() | {"STATS_TIME_LIMIT": "1"}
    killed = 0
    for number in range(6):
        process = subprocess.Popen(
            [sys.executable, *ERASE.split()], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        wait_for(partial(has_begun, process, database), "its start")
        time.sleep(number * 0.15)  # at another point each time
        process.send_signal(signal.SIGKILL)
        killed += process.wait() == -signal.SIGKILL
    assert killed >= 2
    ran = subprocess.run([sys.executable, *ERASE.split()], env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "No data of this visitor is stored." in ran.stdout
    assert eraser.data.search(ANN) == NOTHING
    assert database["events"].count_documents({"site_id": "shop"}) == 4000
    assert audit(audited).faults == []


# Reports afterwards


@hypothesis_settings(
    max_examples=int(os.environ.get("EXAMPLES", "8")),
    deadline=None,
    suppress_health_check=list(HealthCheck),
    database=None,
)
@given(data=st.data())
def test_after_an_erasure_reports_are_as_if_the_visitor_had_never_existed(
    services: Services, eraser: Eraser, database: Database, data: st.DataObject
):
    for name in database.list_collection_names():
        database[name].delete_many({})
    segments, stream = eraser.data.segments, data.draw(streams())
    documents: list[dict[str, Any]] = list(stream.documents)
    segments.backfill.note_if_there_is_none()
    if documents:
        database["events"].insert_many([dict(document) for document in documents])
    segments.dirty.mark([(d["site_id"], as_ms(d["timestamp"])) for d in documents], NOW)
    for _ in range(data.draw(st.integers(0, 3))):
        if documents:
            each = data.draw(st.sampled_from(documents))
            grain = data.draw(st.sampled_from(SEGMENT_GRAINS))
            segments.builder.build(each["site_id"], grain, interval_of(grain, as_ms(each["timestamp"])))
    visitor = Visitor(data.draw(st.sampled_from(stream.sites)), user_id=data.draw(st.sampled_from(VISITORS)))
    left = [d for d in documents if (d["site_id"], d.get("user_id")) != (visitor.site_id, visitor.user_id)]
    assert eraser.erase(visitor).events == len(documents) - len(left)
    for is_finished in (False, True):
        if is_finished:
            finish(eraser)
            assert eraser.data.search(visitor) == NOTHING
        for _ in range(2):
            query = data.draw(queries(stream))
            assert as_oracle_says(services.reports.answer(query)) == [tuple(r) for r in oracle.answer(left, query).rows]


# Over HTTP and on the command line


def test_over_http_a_visitor_is_searched_exported_and_erased(
    report: FlaskClient, stores: Stores, redis: Redis, database: Database
):
    send(stores.journal, {"event_id": "1", "path": "/a"}, {"user_id": "bob"})
    redis.xadd(JOURNAL_KEY, {"event": json.dumps({"site_id": "shop", "user_id": "ann"})})
    drain(stores)
    send(stores.journal, {"path": "/waiting"})
    whose = {"site_id": "shop", "user_id": "ann"}

    def post(what: str, body: Any = whose) -> Any:
        return report.post(f"/admin/visitors/{what}", headers=HEADERS, json=body)

    found = {"events": 1, "segments": 0, "dead_letters": 1, "journal": 1, "found": True}
    assert post("search").json == found
    exported = post("export")
    assert exported.mimetype == "application/x-ndjson"
    lines = [json.loads(line) for line in exported.data.splitlines()]
    assert [line["kind"] for line in lines] == ["event", "dead_letter", "waiting"]
    assert (lines[0]["path"], lines[0]["user_id"], lines[0]["timestamp"]) == ("/a", "ann", RECEIVED.isoformat())
    assert "bob" not in exported.text
    assert report.get("/admin/visitors/export", headers=HEADERS, query_string=whose).status_code == 405
    assert post("erase").json["erased"] == {"events": 1, "dead_letters": 1, "waiting": 1}
    drain(replace(stores, now=lambda: datetime.now(UTC)))
    assert post("search").json == dict.fromkeys(found, 0) | {"found": False}
    assert post("export").data == b""
    assert post("erase").json["erased"] == {"events": 0, "dead_letters": 0, "waiting": 0}
    assert "ann" not in str(list(database["erasures"].find()))


@pytest.mark.parametrize(
    "body",
    [
        {"site_id": "shop"},
        {"user_id": "ann"},
        {"site_id": "shop", "user_id": ""},
        {"site_id": "shop", "user_id": "a", "visitor_id": "b"},
        {"site_id": "shop", "user": "ann"},
        [],
        None,
    ],
)
def test_an_invalid_visitor_is_a_400(report: FlaskClient, body: Any):
    for what in ("search", "export", "erase"):
        assert report.post(f"/admin/visitors/{what}", headers=HEADERS, json=body).status_code == 400


@pytest.fixture
def run(settings: Settings) -> Callable[..., Result]:
    soon = replace(settings, stats_time_limit=0.5)
    return lambda *words: CliRunner().invoke(visitors_group, words, obj=soon)


def test_the_command_line_searches_exports_erases_and_confirms(
    run: Callable[..., Result], stores: Stores, segments: Segments
):
    three_days(stores, segments)
    hers = ("--site", "shop", "--user", "ann")
    found = run("search", *hers)
    assert (found.exit_code, found.output.split()[:4]) == (1, ["15", "events", "2", "segments"])
    assert len(run("export", *hers).output.splitlines()) == 15
    assert "Erase 15 events and 0 dead letters? [y/N]" in run("erase", *hers).output
    assert run("search", *hers).exit_code == 1
    erased = run("erase", *hers, "--yes", "--wait", "60")
    assert erased.exit_code == 0, erased.output
    assert "No data of this visitor is stored." in erased.output
    assert run("search", *hers).exit_code == 0
    assert run("erase", *hers, "--yes").exit_code == 0, "again is harmless"
    assert run("search", "--site", "shop").exit_code == 2


def test_copies_and_memory_of_other_machines_are_cleared_too(
    stores: Stores, eraser: Eraser, settings: Settings, database: Database, tmp_path: Path
):
    segments = eraser.data.segments
    three_days(stores, segments)
    elsewhere = make_services(replace(settings, segment_dir=str(tmp_path)), database=database).segments
    for segment in segments.store.manifest("shop").segments:
        elsewhere.store.fetch(segment)
    forgetter = Forgetter(elsewhere.store, eraser.erasures, elsewhere.reader)
    forgetter.forget()
    assert len(list(tmp_path.glob("*.parquet"))) == 2
    with elsewhere.connect() as connection:
        month = interval_of("month", as_ms(RECEIVED))
        elsewhere.reader.open(connection, "shop", month, 1000)
    assert len(elsewhere.reader._slots._values) > 0
    eraser.erase(ANN)
    finish(eraser)
    forgetter.forget()
    assert list(tmp_path.glob("*.parquet")) == []
    assert len(elsewhere.reader._slots._values) == len(elsewhere.reader._seams._values) == 0


def test_files_stay_for_queries_that_began_before(stores: Stores, services: Services):
    eraser = services.eraser
    three_days(stores, eraser.data.segments)
    old = set(eraser.data.segments.store.versions("shop"))
    now = datetime.now(UTC)
    assert eraser.rewriter.kept_for == timedelta(seconds=15)
    eraser.erase(ANN)
    eraser.finish()
    assert old < set(eraser.data.segments.store.versions("shop"))
    replace(eraser.rewriter, now=lambda: now + timedelta(seconds=60)).rewrite_due()
    assert not old & set(eraser.data.segments.store.versions("shop"))
    assert eraser.data.search(ANN) == NOTHING
