"""An erasure reaches segments outside MongoDB."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pymongo.database import Database
from redis import Redis

from analytics.journal.journal import Journal
from config.services import Services
from config.settings import Settings
from tests.analytics.privacy.test_eraser import ANN, NOTHING, finish, three_days
from tests.support.services import make_services


@pytest.fixture
def services(
    settings: Settings, redis: Redis, database: Database[dict[str, Any]], journal: Journal, tmp_path: Path
) -> Iterator[Services]:
    outside = replace(settings, segment_storage=str(tmp_path / "shared"))
    with closing(make_services(outside, redis=redis, database=database, journal=journal)) as services:
        yield services


def test_no_file_in_the_storage_holds_an_erased_visitor(services: Services, tmp_path: Path):
    rewriter = replace(services.eraser.rewriter, kept_for=timedelta(0))
    eraser, store = replace(services.eraser, rewriter=rewriter), services.segments.store
    three_days(services.stores, services.segments)

    def stored() -> set[str]:
        return {path.stem for path in (tmp_path / "shared").iterdir()}

    before = stored()
    assert len(before) == 2
    assert before == set(store.versions("shop"))
    assert eraser.data.search(ANN).segments == 2
    eraser.erase(ANN)
    finish(eraser)
    assert eraser.data.search(ANN) == NOTHING
    assert stored() == set(store.versions("shop"))
    assert not before & stored()
