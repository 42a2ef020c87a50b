"""Imports of uploaded files leave a process of each machine to store events."""

from dataclasses import replace
from pathlib import Path

import pytest

from analytics.segments.scratch import alone
from config.settings import Settings
from tasks import outcome
from tasks.imports import work_uploads


def test_nothing_is_imported_while_another_process_of_the_machine_builds(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(outcome, "settings", replace(settings, segment_dir=str(tmp_path)))
    with alone(tmp_path / "building.lock") as is_ours:
        assert is_ours
        assert work_uploads() == {"done": 0, "skipped": "another process builds"}
