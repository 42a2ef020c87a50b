"""Schemathesis against both running apps, with valid and invalid requests. All of its checks are on.

`make fuzz-api` runs a longer test (docs/api.md).
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.fuzzing import SETTINGS, cases, found, fuzz, never_done, tell
from tests.support.running_system import System

EXAMPLES, SEED = 2, 20261127


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[System, dict[str, str]]]:
    system = System(tmp_path_factory.mktemp("system"), **SETTINGS)
    try:
        system.start()
        yield system, tell(system)
    finally:
        system.kill()


@pytest.mark.timeout(300)  # by itself it takes a third of that
@pytest.mark.parametrize("app", ["ingest", "report"])
def test_described_requests_get_described_answers_and_others_are_refused(
    told: tuple[System, dict[str, str]], tmp_path: Path, app: str
):
    system, environment = told
    done = fuzz(getattr(system, app), tmp_path, EXAMPLES, SEED, FUZZ="short", **environment)
    assert done.returncode == 0, found(done)
    assert cases(done) > 500
    assert never_done(getattr(system, app), tmp_path) == set()
