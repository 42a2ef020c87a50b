"""`python -m footfall upgrade` and `--version`, and processes that meet data of a later version."""

import os
import shlex
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from pymongo.database import Database
from redis import Redis

from analytics.store_notes import STORE_FORMAT, StoreNotes
from config.settings import Settings
from config.version import FOOTFALL_VERSION
from footfall.__main__ import footfall
from footfall.embedded_servers import pick_port
from footfall.upgrade import upgrade_command
from tests.support.running_system import BIN, ROOT, own_environment
from tests.system.test_deployment import PROCFILE

LATER = f"has format {STORE_FORMAT + 1}, and this version of Footfall reads {STORE_FORMAT} at most"


@pytest.fixture
def state(redis: Redis, database: Database[dict[str, Any]]) -> StoreNotes:
    return StoreNotes(redis, database)


def upgrade(settings: Settings, *words: str) -> Result:
    return CliRunner().invoke(upgrade_command, words, obj=settings)


def test_the_version_is_the_one_of_the_project_and_of_the_changelog():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == FOOTFALL_VERSION
    assert f"\n## {FOOTFALL_VERSION}" in (ROOT / "CHANGELOG.md").read_text()
    assert CliRunner().invoke(footfall, ["--version"]).output == f"Footfall, version {FOOTFALL_VERSION}\n"


def test_the_data_of_version_0_1_is_upgraded_once(settings: Settings, state: StoreNotes):
    check = upgrade(settings, "--check")
    assert (check.exit_code, state.format()) == (1, 1)
    assert "To do: format 2, from now on, waiting events are packed" in check.output
    assert (upgrade(settings).exit_code, state.format()) == (0, STORE_FORMAT)
    for words in (["--check"], []):
        ran = upgrade(settings, *words)
        assert ran.exit_code == 0, ran.output
        assert ran.output.endswith("Nothing to upgrade.\n")


def test_segments_of_an_older_format_are_counted(
    settings: Settings, state: StoreNotes, database: Database[dict[str, Any]]
):
    segments = [{"format": 2}, {}, {"format": 3}, {"format": 4}]
    database["segment_manifests"].insert_one({"_id": "shop", "generation": 1, "segments": segments})
    assert "2 of 4 segments have an older format" in upgrade(settings, "--check").output


@pytest.mark.usefixtures("usual_limits")
def test_later_data_and_an_unreachable_store_have_exit_codes_of_their_own(settings: Settings, state: StoreNotes):
    state.note_format(STORE_FORMAT + 1)
    ran = upgrade(settings, "--check")
    assert (ran.exit_code, LATER in ran.stderr) == (1, True)
    away = Settings(mongodb_uri=f"mongodb://127.0.0.1:{pick_port(0)}/footfall?replicaSet=footfall")
    assert upgrade(away).exit_code == 2


@pytest.mark.parametrize("name", ["ingest", "report", "worker", "beat"])
def test_no_process_starts_with_data_of_a_later_version(
    settings: Settings, state: StoreNotes, tmp_path: Path, name: str
):
    state.note_format(STORE_FORMAT + 1)
    environment = own_environment() | {"PATH": f"{BIN}:{os.environ['PATH']}", "DATA_DIR": str(tmp_path)}
    environment |= {"REDIS_URL": settings.redis_url, "MONGODB_URI": settings.mongodb_uri}
    environment |= {port: str(pick_port(0)) for port in ("INGESTION_PORT", "REPORTING_PORT", "WORKER_METRICS_PORT")}
    ran = subprocess.run(
        shlex.split(PROCFILE[name]), env=environment, capture_output=True, text=True, check=False, timeout=60
    )
    assert ran.returncode != 0
    assert LATER in ran.stderr
