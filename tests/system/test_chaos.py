"""A short `make chaos` in a fixed order: no event is lost or doubled, and the ledger balances."""

import re
from pathlib import Path

import httpx
import pytest

from bench.chaos import run_chaos
from tests.support.running_system import System, frozen


@pytest.mark.timeout(240)
def test_twenty_faults_neither_lose_nor_duplicate_an_event(tmp_path: Path):
    system = System(tmp_path, CLAIM_IDLE="5")
    try:
        tally = run_chaos(system.start(), faults=20, seed=7)
        assert system.stop() == []
    finally:
        system.kill()
    assert sum(tally.faults.values()) == 20
    assert len(tally.acknowledged) > 1000
    assert tally.lost == set()
    assert tally.doubled == 0
    assert tally.dead == 0
    assert tally.ledger == []
    assert len(tally.acknowledged) > 2 * tally.hits, "several events a hit"
    assert tally.stored >= len(tally.acknowledged)


@pytest.mark.timeout(180)
def test_a_system_that_does_not_drain_shows_its_state(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    system = System(tmp_path)
    try:
        system.start()
        with frozen(system.part("mongod")):
            event = {"site_id": "chaos", "event_type": "page_view"}
            assert httpx.post(f"{system.ingest}/event", json=event, timeout=10).status_code == 200
            with pytest.raises(AssertionError, match="an empty journal"):
                run_chaos(system, faults=0, seed=1, stalled=1)
        shown = capfd.readouterr().out
    finally:
        system.kill()
    _, *parts = shown.split("\n== ")
    by_title = dict(part.split(" ==\n", 1) for part in parts)
    assert {"processes", "journal and queues", "stacks", "last lines of each process"} <= set(by_title)
    assert "not to be had" not in by_title["processes"] + by_title["stacks"]
    assert re.search(r"stopped .*mongod", by_title["processes"])
    assert "redis-server" in by_title["processes"]
    assert re.search(r"^journal: [1-9]\d* events$", by_title["journal and queues"], re.M)
    assert "Celery's queue events: " in by_title["journal and queues"]
    for name in ("ingest", "report", "worker", "beat"):
        assert re.search(rf'^{name} +\|   File ".*", line \d+ in \w+$', by_title["stacks"], re.M), name
    assert "gunicorn/arbiter.py" in by_title["stacks"]
    assert "celery/beat.py" in by_title["stacks"]
    assert "Starting gunicorn" in by_title["last lines of each process"]
    assert "\nrun      | redis is ready" in by_title["last lines of each process"]
    assert any(title.endswith("redis.log") for title in by_title)
    assert any(title.endswith("mongod.log") for title in by_title)
