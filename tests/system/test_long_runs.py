"""What `make soak` and `make overload` call a fault, and a short soak."""

from array import array
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench.ingestion import PARTS
from bench.load import Load
from bench.many_events import Outcome
from bench.overload import Overload
from bench.soak import WINDOWS, Soak, Usage, Window, run_soak
from tests.support.running_system import system_running

SOUND = Outcome(acknowledged=10, lost=0, doubled=0, ledger=[])
USAGE = Usage(memory=100.0, files=50, connections=10)
LOAD = Load(seconds=1.0, statuses=Counter({200: 5, 503: 5}), accepted=array("d", [0.1] * 5))
OVERLOAD = Overload(capacity=5, wanted=10, load=LOAD, recovered=0.0, backlog=0, outcome=SOUND)


def window(usage: Usage = USAGE, times: float = 1.0, name: str = "worker", **more: Any) -> Window:
    """`times`: how slow the answers are, relative to other windows."""
    latency = {0.5: 10.0 * times, 0.99: 50.0 * times}
    return Window(**{"statuses": Counter({200: 9}), "latency": latency, "usage": {(name, 1): usage}} | more)


def faults_of(last: Window, outcome: Outcome = SOUND, name: str = "worker") -> list[str]:
    return Soak(5_000, [*[window(name=name)] * (WINDOWS - 1), last], outcome).faults()


def test_a_soak_in_which_nothing_grows_has_no_fault():
    assert faults_of(window(Usage(memory=102.9, files=60, connections=16), times=1.25)) == []
    assert faults_of(window(Usage(memory=200.0, files=50, connections=10), name="mongodb"), name="mongodb") == []


@pytest.mark.parametrize(
    ("last", "fault"),
    [
        (window(replace(USAGE, memory=103.0)), "the memory of worker 1 grew by 3.0%"),
        (window(replace(USAGE, files=61)), "the files of worker 1 grew from 50 to 61"),
        (window(replace(USAGE, connections=17)), "the connections of worker 1 grew from 10 to 17"),
        (window(times=1.3), "p50 was 10.0 ms after the warm-up, and 13.0 ms at the end"),
        (window(latency={0.5: 10.0, 0.99: 76.0}), "p99 was 50.0 ms after the warm-up, and 76.0 ms at the end"),
        (window(statuses=Counter({200: 9, 503: 1})), "answers {200: 54, 503: 1}, 0 requests without one"),
        (window(dropped=2), "answers {200: 54}, 2 requests without one"),
    ],
)
def test_what_grows_or_fails_during_a_soak_is_named(last: Window, fault: str):
    assert faults_of(last) == [fault]


def test_lost_and_doubled_events_and_a_wrong_ledger_are_named():
    wrong = Outcome(acknowledged=10, lost=1, doubled=2, ledger=["shop: 1 is missing"])
    expected = ["1 events lost", "2 events doubled", "shop: 1 is missing"]
    assert faults_of(window(), wrong) == expected
    assert replace(OVERLOAD, outcome=wrong).faults() == expected


def test_an_overload_may_refuse_requests():
    assert OVERLOAD.faults() == []


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"statuses": Counter({200: 5, 500: 1})}, "500"),
        ({"without_retry_after": 1}, "1 x 503 without Retry-After"),
        ({"dropped": 1}, "1 requests without an answer"),
        ({"accepted": array("d", [0.25] * 5)}, "accepted requests took 250 ms"),
    ],
)
def test_what_an_overload_may_not_do_is_named(change: dict[str, Any], fault: str):
    (found,) = replace(OVERLOAD, load=replace(LOAD, **change)).faults()
    assert fault in found


def test_a_late_return_to_normal_service_is_named():
    assert replace(OVERLOAD, recovered=10.1).faults() == ["normal service after 10.1 s, and not within 10"]


@pytest.mark.alone
@pytest.mark.timeout(180)
def test_a_short_soak_loses_nothing_and_watches_each_process(tmp_path: Path):
    with system_running(tmp_path) as system:
        soak = run_soak(system, seconds=12, share=0.2, capacity_seconds=1)
    assert soak.outcome.faults() == []
    assert soak.outcome.acknowledged > 100
    assert len(soak.windows) == WINDOWS
    for each in soak.windows:
        assert set(each.statuses) == {200}
        assert {name for name, _ in each.usage} == set(PARTS)
        assert each.asked
