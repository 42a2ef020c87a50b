"""`python -m footfall backup` and `restore`, on real stores: what they print, and what they leave behind."""

import os
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click import Command
from click.testing import CliRunner, Result
from pymongo.database import Database
from redis import Redis

from config.env_file import read_env_file
from config.services import Services
from config.settings import Settings
from footfall.audit import audit_command
from footfall.backup import backup_command, restore_command, settings_text
from footfall.embedded_servers import pick_port
from footfall.imports import import_command
from footfall.privacy import purge_command
from footfall.sites import sites
from footfall.status import status_command
from tests.footfall.test_failed_starts import mounted
from tests.support.running_system import ROOT

SECRET = "it's a \\ 'secret' ${HOME} #1"


def back_up(settings: Settings, folder: Path) -> Result:
    return CliRunner().invoke(backup_command, [str(folder)], obj=settings)


def fill(database: Database[dict[str, Any]], megabytes: int) -> None:
    database["events"].insert_many({"noise": os.urandom(100_000)} for _ in range(10 * megabytes))


def test_a_full_disk_is_named_and_nothing_is_left(
    settings: Settings, redis: Redis, database: Database[dict[str, Any]], tmp_path: Path
):
    fill(database, 3)
    with mounted(tmp_path / "disk", "size=2m"):
        ran = back_up(settings, tmp_path / "disk" / "one")
        assert (ran.exit_code, "No space left on device" in ran.stderr) == (1, True)
        assert list((tmp_path / "disk").iterdir()) == []
    assert back_up(settings, tmp_path / "one").exit_code == 0


@pytest.mark.usefixtures("usual_limits")
def test_a_store_that_does_not_answer_is_named_and_nothing_is_left(settings: Settings, redis: Redis, tmp_path: Path):
    for name in ("redis_url", "mongodb_uri"):
        port = pick_port(0)
        address = {"redis_url": f"redis://127.0.0.1:{port}/0", "mongodb_uri": f"mongodb://127.0.0.1:{port}/footfall"}
        ran = back_up(replace(settings, **{name: address[name]}), tmp_path / "one")
        assert ran.exit_code == 1
        assert f"does not answer at 127.0.0.1:{port}" in ran.stderr
    assert list(tmp_path.iterdir()) == []


def test_settings_are_kept_with_their_secrets_and_can_be_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    settings = Settings(flower_basic_auth=SECRET, web_threads=7, redis_url="redis://127.0.0.1:1/0", starts={"redis"})
    (tmp_path / ".env").write_text(settings_text(settings))
    monkeypatch.chdir(tmp_path)
    assert read_env_file({}).values == {"FLOWER_BASIC_AUTH": SECRET, "WEB_THREADS": "7"}


def test_a_folder_without_a_backup_is_named(settings: Settings, tmp_path: Path):
    for folder, what in ((tmp_path, "manifest.json is missing"), (tmp_path / "none", "not a folder with a backup")):
        ran = CliRunner().invoke(restore_command, [str(folder)], obj=settings)
        assert (ran.exit_code, what in ran.stderr) == (1, True)


@pytest.mark.parametrize(("words", "folder"), [([], "backups/2"), (["TO=backups/friday"], "backups/friday")])
def test_make_backup_names_the_folder_by_the_time_or_as_it_is_told(words: list[str], folder: str):
    command = ["make", "-n", "-o", ".venv/run", "backup", *words]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert f"python -m footfall backup {folder}" in ran.stdout


@pytest.mark.parametrize(
    ("command", "words", "code"),
    [
        (backup_command, ["{}/one"], 1),
        (import_command, ["--site", "shop", "{}/file"], 1),
        (status_command, [], 1),
        (sites, ["list"], 1),
        (audit_command, [], 2),
        (purge_command, ["--site", "shop", "--before", "2026-01-01", "--yes"], 2),
    ],
)
def test_no_command_uses_data_whose_restore_is_not_complete(
    settings: Settings, services: Services, tmp_path: Path, *, command: Command, words: list[str], code: int
):
    services.store_notes.begin_restore("friday")
    ran = CliRunner().invoke(command, [word.format(tmp_path) for word in words], obj=settings)
    assert ran.exit_code == code
    assert "the restore of backup friday did not finish" in ran.stderr
    assert list(tmp_path.iterdir()) == []
