"""Both apps, running, are asked what their descriptions allow and what they do not; every check of Schemathesis is on.

`make fuzz-api` asks at length (docs/api.md).
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fuzzing import KEYS, cases, found, fuzz, tell
from tests.system import System

EXAMPLES, SEED = 5, 20261127


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    system = System(tmp_path_factory.mktemp("system"), **KEYS)
    try:
        system.start()
        tell(system)
        yield system
    finally:
        system.kill()


@pytest.mark.timeout(300)  # alone it takes a third of that
@pytest.mark.parametrize("app", ["ingest", "report"])
def test_what_is_described_is_answered_as_described_and_what_is_not_is_refused(told: System, tmp_path: Path, app: str):
    done = fuzz(getattr(told, app), tmp_path, EXAMPLES, SEED, FUZZ="short")
    assert done.returncode == 0, found(done)
    assert cases(done) > 500
