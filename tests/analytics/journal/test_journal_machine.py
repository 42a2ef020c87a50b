"""Any order of append, claim, crash, retry, takeover and settlement stores each event once, and the ledger balances.

This also holds if events are purged or erased meanwhile. hypothesis chooses the steps, on a real Redis and a real
MongoDB. Nothing waits: the entries of a task count as abandoned at once (`claim_idle=0`). So takeovers from running
tasks are as frequent as those from crashed ones.
"""

from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
)
from pymongo.database import Database
from redis import Redis

from analytics.events.event import id_from_client
from analytics.events.removal import ERASED, PURGED, Removals
from analytics.events.schema import load_event
from analytics.events.store import EventStore
from analytics.journal.audit import Audited, audit
from analytics.journal.dead_letters import DeadLetterStore, LetterFilter
from analytics.journal.journal import JOURNAL_KEY, Entry, Journal, Line
from analytics.journal.ledger import Ledger
from analytics.journal.replay import replay_all
from analytics.journal.site_shares import HELD
from analytics.pipeline import MOST_CRASHES, Stores, _store, store_waiting
from analytics.privacy.erasure_log import Erasures
from analytics.privacy.late_arrivals import LateArrivals
from analytics.privacy.visitor import Visitor
from analytics.unavailable import Unavailable
from tests.support.services import NOW

FEW_IDS = [f"{n}" for n in range(12)]
ANN = Visitor("site", user_id="ann")


def is_anns(event_id: str) -> bool:
    return int(event_id) % 2 == 0


class Killed(BaseException):
    """The process crashes here."""


class Machine(RuleBasedStateMachine):
    """Tasks have names. A crashed task may run again under its name, or never."""

    servers: tuple[Redis, Database[dict[str, Any]]]
    dead_tasks = Bundle("dead_tasks")
    slow_tasks = Bundle("slow_tasks")

    @initialize()
    def begin(self) -> None:
        self.redis, self.database = self.servers
        self.redis.flushall()
        for name in self.database.list_collection_names():
            self.database[name].delete_many({})
        self.journal = Journal(self.redis, queue="events", batch=5, claim_idle=0)
        events, letters = EventStore(self.database), DeadLetterStore(self.database)
        self.erasures = Erasures(self.redis, self.database)
        self.removals = Removals(self.database)
        self.now = NOW
        self.stores = Stores(
            self.journal, events, letters, lambda: self.now, LateArrivals(self.erasures, self.removals, letters)
        )
        self.removed: set[str] = set()  # ids of events that may be stored or not, because the same event was sent again
        self.journal.held("somebody")
        self.acknowledged: Counter[str] = Counter()
        self.foreign = 0
        self.erased_until: Counter[str] = Counter()
        self.tasks = 0
        # Deliveries that end without a result: below MOST_CRASHES, so that no event becomes a dead letter.
        self.crashes = 0

    def name(self) -> str:
        self.tasks += 1
        return f"task-{self.tasks}"

    @rule(ids=st.lists(st.sampled_from(FEW_IDS), min_size=1, max_size=8))
    def append(self, ids: list[str]) -> None:
        self.now += timedelta(seconds=10)
        for event_id in ids:
            user_id = "ann" if is_anns(event_id) else "bob"
            body = {"site_id": "site", "event_type": "a", "event_id": event_id, "user_id": user_id}
            self.journal.append([Line.of(load_event(body, self.now))])
        self.acknowledged.update(ids)

    @rule()
    def append_what_is_not_ours(self) -> None:
        self.redis.xadd(JOURNAL_KEY, {"event": b"no json"})
        self.foreign += 1

    @rule()
    def ann_is_erased(self) -> None:
        since = self.journal.oldest()
        self.erasures.note(ANN, self.now)
        self.remove({"site_id": "site", "user_id": "ann"}, ERASED, since)
        self.removed |= {event_id for event_id in self.acknowledged if is_anns(event_id)}
        self.erased_until = self.acknowledged.copy()

    @rule(ids=st.sets(st.sampled_from(FEW_IDS)))
    def some_are_purged(self, ids: set[str]) -> None:
        since = self.journal.oldest()
        self.remove({"_id": {"$in": [id_from_client("site", event_id) for event_id in ids]}}, PURGED, since)
        self.removed |= ids & set(self.acknowledged)

    def remove(self, which: dict[str, Any], why: str, since: datetime | None) -> None:
        keys = [document["_id"] for document in self.database["events"].find(which)]
        self.removals.remove(keys, {}, why, self.now, since)

    @rule()
    def run_a_task(self) -> None:
        store_waiting(self.stores, self.name())

    @precondition(lambda self: self.crashes < MOST_CRASHES - 1)
    @rule(target=dead_tasks, step=st.sampled_from(["store", "stored", "kept", "settle", "settled"]))
    def a_task_dies(self, step: str) -> str:
        self.crashes += 1
        task = self.name()
        with suppress(Killed):
            store_waiting(self.dying(step, Killed()), task)
        return task

    @rule(target=dead_tasks, step=st.sampled_from(["store", "stored", "kept", "settle", "settled"]))
    def a_store_is_away_or_does_not_answer(self, step: str) -> str:
        task = self.name()
        with suppress(Unavailable):
            store_waiting(self.dying(step, Unavailable("a store", OSError("away"))), task)
        return task

    @rule(task=consumes(dead_tasks))
    def a_task_runs_again(self, task: str) -> None:
        store_waiting(self.stores, task)

    @precondition(lambda self: self.crashes < MOST_CRASHES - 1)
    @rule(target=slow_tasks)
    def a_task_claims_and_is_slow(self) -> Any:
        self.crashes += 1
        task = self.name()
        entries = self.journal.claim(task)
        return (task, entries) if entries else multiple()

    @rule(slow=consumes(slow_tasks))
    def a_slow_task_goes_on(self, slow: tuple[str, list[Entry]]) -> None:
        _store(self.stores, *slow)

    @rule()
    def dead_letters_are_replayed(self) -> None:
        replay_all(self.journal, self.stores.dead_letters, LetterFilter())

    @invariant()
    def what_each_site_holds_is_counted(self) -> None:
        held: Counter[bytes] = Counter()
        for entry in self.journal.entries():
            if entry.account:
                held[f"bytes {entry.account.site_id}".encode()] += len(entry.raw)
                held[f"events {entry.account.site_id}".encode()] += 1
        assert {name: int(n) for name, n in self.redis.hgetall(HELD).items()} == held

    def dying(self, step: str, error: BaseException) -> Stores:
        """Stores that fail before or after their work."""
        events, letters = EventStore(self.database), DeadLetterStore(self.database)
        journal = Journal(self.redis, queue="events", batch=5, claim_idle=0)
        if step in ("store", "stored"):
            events.store = failing(events.store, error, after=step == "stored")  # type: ignore[method-assign]
        elif step == "kept":
            letters.keep = failing(letters.keep, error, after=True)  # type: ignore[method-assign]
        else:
            journal.settle = failing(journal.settle, error, after=step == "settled")  # type: ignore[method-assign]
        return Stores(journal, events, letters, lambda: self.now, self.stores.removed)

    def teardown(self) -> None:
        while self.journal.waiting():
            store_waiting(self.stores, self.name())
        stored = list(self.database["events"].find())
        ids = {document["_id"] for document in stored}
        assert len(ids) == len(stored)
        expected, unsure = (
            {id_from_client("site", event_id) for event_id in found} for found in (self.acknowledged, self.removed)
        )
        assert expected - unsure <= ids <= expected
        once = {i for i in self.acknowledged if is_anns(i) and self.acknowledged[i] == self.erased_until[i]}
        assert not {id_from_client("site", i) for i in once} & ids, "all of these were received before the erasure"
        gone = {document["_id"] for document in self.database["events_gone"].find()}
        assert not gone & {document["entry_id"] for document in stored}, "what was removed has come back"
        assert self.database["dead_letters"].count_documents({}) == self.foreign
        found = audit(
            Audited(Ledger(self.redis, self.database), self.journal, self.stores.events, self.stores.dead_letters)
        )
        assert found.faults == []
        totals = {
            name: sum(getattr(line, name) for line in found.balances) for name in ("received", "stored", "accepted")
        }
        assert totals["received"] == self.acknowledged.total() + self.foreign
        assert totals["stored"] == len(self.acknowledged) or self.removed


def failing(act: Callable[..., Any], error: BaseException, *, after: bool) -> Callable[..., Any]:
    def act_or_fail(*args: Any) -> Any:
        if after:
            act(*args)
        raise error

    return act_or_fail


def test_every_interleaving_stores_each_event_once(redis: Redis, database: Database[dict[str, Any]]):
    class OnTheseServers(Machine):
        pass

    OnTheseServers.servers = redis, database
    test = OnTheseServers.TestCase
    test.settings = settings(
        max_examples=120,
        stateful_step_count=25,
        deadline=None,  # the answers of servers take any time
        suppress_health_check=[HealthCheck.too_slow],
        database=None,
    )
    test("runTest").runTest()
