"""A short `make chaos`, always in the same order: nothing lost, nothing doubled, and the books add up."""

from pathlib import Path

import pytest

from bench.chaos import run_chaos
from tests.system import System


@pytest.mark.timeout(240)
def test_twenty_faults_lose_nothing_and_double_nothing(tmp_path: Path):
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
    assert tally.books == []
    assert len(tally.acknowledged) > 2 * tally.hits, "several events a hit"
    assert tally.stored >= len(tally.acknowledged)
