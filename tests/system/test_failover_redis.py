"""Redis with a replica and three sentinels, all real: the master dies and freezes while events come in."""

import json
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import date

import pytest
from redis import Redis
from redis.exceptions import ResponseError

from analytics.events.account import Account
from analytics.events.event import id_from_client
from analytics.journal.journal import JOURNAL_KEY, Journal, Line
from analytics.unavailable import Unavailable
from bench.chaos import Tally, drain, producing
from config.services import Services
from config.settings import Settings
from tests.support.clusters import Member, RedisPair, cluster_running
from tests.support.running_system import System, system_running, wait_for

A_LINE = Line(Account("site", date(2026, 11, 22)), event=b"{}")
DOWN_AFTER = 1.0  # seconds; Sentinel's default is 30


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisPair]:
    with cluster_running(RedisPair(tmp_path_factory.mktemp("pair"), DOWN_AFTER)) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def system(pair: RedisPair, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    with system_running(tmp_path_factory.mktemp("system"), REDIS_SENTINELS=pair.addresses, CLAIM_IDLE="5") as system:
        yield system
        assert not system.part("redis-server"), "make run starts a Redis only if none is set"


def test_killing_the_master_and_a_sentinel_neither_loses_nor_duplicates_an_event(system: System, pair: RedisPair):
    tally, old = Tally(site="killed"), pair.master()
    with producing(system, tally):
        wait_for(lambda: len(tally.acknowledged) > 300, "three hundred events")
        old.kill()
        pair.sentinels[0].kill()
        wait_for(lambda: pair.master() not in (old, None), "another master")
        old.start()  # as its supervisor would; until it is a replica, no replica has the new master's writes
        pair.sentinels[0].start()
        before = len(tally.acknowledged)
        wait_for(lambda: len(tally.acknowledged) > before + 300, "events acknowledged by the new master", 40)
    check(system, pair, tally)


def test_a_master_that_freezes_and_returns_acknowledges_no_event_that_is_lost(system: System, pair: RedisPair):
    """The old master may accept and lose a write that relies on min-replicas-to-write alone.

    The collector's write is refused.
    """
    tally, old = Tally(site="frozen"), pair.master()
    client = Redis(port=old.port, retry=None, protocol=2, socket_timeout=60)  # an election takes seconds
    client.ping()
    with producing(system, tally), ThreadPoolExecutor() as pool:
        wait_for(lambda: len(tally.acknowledged) > 300, "three hundred events")
        old.freeze()
        body = {"site_id": tally.site, "event_type": "page_view", "event_id": "trusting"}
        trusting = pool.submit(client.xadd, JOURNAL_KEY, {"event": json.dumps(body)})
        wait_for(lambda: pair.master() not in (old, None), "another master")
        old.thaw()
        try:
            entry = trusting.result(5)
        except ResponseError:  # it checked its replicas before this write; it may do either first
            entry = None
        with pytest.raises(Unavailable):
            a_journal(old).append([A_LINE])
        before = len(tally.acknowledged)
        wait_for(lambda: len(tally.acknowledged) > before + 300, "events acknowledged by the new master", 40)
    check(system, pair, tally)
    assert entry is None or not system.redis().xrange(JOURNAL_KEY, entry, entry)
    with system.database() as database:
        assert not database["events"].find_one(id_from_client(tally.site, "trusting"))


def a_journal(member: Member) -> Journal:
    redis = Redis(port=member.port, retry=None, protocol=2)
    return Journal(redis, queue="events", batch=1000, claim_idle=5, replicas=1)


def check(system: System, pair: RedisPair, tally: Tally) -> None:
    wait_for(pair.is_whole, "the old master as a replica")
    drain(system, tally)
    print(
        f"{tally.site}: no 200 for {tally.shut:.1f} s, slowest answer {tally.slowest:.2f} s,"
        f" {len(tally.acknowledged)} acknowledged, {tally.stored} stored, refused {dict(tally.refused)}"
    )
    assert (tally.lost, tally.doubled, tally.dead, tally.ledger) == (set(), 0, 0, [])
    assert set(tally.refused) == {"503"}
    assert tally.slowest < 2


@pytest.fixture
def silent() -> Iterator[list[str]]:
    """Three addresses that accept connections and never answer."""
    with ExitStack() as stack:
        listening = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(3)]
        yield [f"127.0.0.1:{one.getsockname()[1]}" for one in listening]


def test_an_append_fails_within_two_seconds_if_the_master_or_sentinels_are_silent(pair: RedisPair, silent: list[str]):
    host, port = silent[2].split(":")
    Redis(port=pair.sentinels[0].port, protocol=2).sentinel_monitor("silent", host, port, 2)
    one_talks = ",".join([*silent[:2], f"127.0.0.1:{pair.sentinels[0].port}"])
    for sentinels in (",".join(silent), one_talks):
        unused = "redis://127.0.0.1:1/0"
        settings = Settings(redis_url=unused, redis_sentinels=sentinels, redis_master_name="silent")
        journal = Services(settings).journal
        start = time.monotonic()
        with pytest.raises(Unavailable):
            journal.append([A_LINE])
        print(f"{time.monotonic() - start:.2f} s")
        assert time.monotonic() - start < 2
