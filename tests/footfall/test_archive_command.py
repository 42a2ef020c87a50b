"""`python -m footfall archive` on real stores."""

import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from pymongo.database import Database

from config.services import Services
from config.settings import Settings
from footfall.archive import archive_group
from tests.analytics.imports.conftest import Imports, imports
from tests.system.test_backup_of_a_system import commands_of

__all__ = ["imports"]

Run = Callable[..., Result]
DIMENSIONS = ("event:page", "visit:source", "visit:browser", "visit:exit_page", "time:hour")


@pytest.fixture
def run(settings: Settings, tmp_path: Path) -> Run:
    def run(*words: str, archive: str = str(tmp_path / "archive")) -> Result:
        return CliRunner().invoke(archive_group, words, obj=replace(settings, archive=archive))

    return run


def reports(imports: Imports, site: str = "shop") -> list[Any]:
    by = [imports.ask(["visitors", "visits", "events", "bounce_rate"], name, site=site) for name in DIMENSIONS]
    return [imports.totals(site), *by]


def test_a_lost_site_is_restored_from_the_archive_and_restoring_again_changes_nothing(
    run: Run, imports: Imports, services: Services, database: Database[dict[str, Any]]
):
    imports.run("umami_website_event.csv", "umami_session.csv")
    before, documents = reports(imports), imports.stored()
    services.segments.builder.build_site("shop", everything=True)
    assert run("run").stdout == "2 days were written, and 0 removed.\n"
    listed = [line.split()[::2] for line in run("list").stdout.splitlines()[1:]]
    assert listed == [["2026-11-02", "shop"], ["2026-11-03", "shop"]]

    for name in ("events", "dirty_hours", "segment_manifests", "archived_days", "imports"):
        database[name].delete_many({})
    for _ in range(2):
        ran = run("restore", "shop")
        assert (ran.exit_code, "6 events were sent" in ran.stdout) == (0, True), ran.output
        imports.drain()
        assert reports(imports) == before
        assert len(imports.stored()) == len(documents)
    services.segments.builder.build_site("shop", everything=True)
    assert run("run").stdout == "2 days were written, and 0 removed.\n"


def test_a_part_of_the_archive_is_restored_into_another_site(run: Run, imports: Imports, services: Services):
    imports.run("umami_website_event.csv", "umami_session.csv")
    services.segments.builder.build_site("shop", everything=True)
    run("run")
    assert run("restore", "shop", "--to", "2026-11-02", "--into", "copy").exit_code == 0
    imports.drain()
    assert imports.totals("copy")[3] == 4
    ran = run("restore", "shop", "--from", "2026-11-20")
    listed = "List them with `python -m footfall archive list`.\n"
    assert (ran.exit_code, ran.stderr) == (1, f"footfall: there is no archived day of shop. {listed}")


def test_the_commands_of_the_documentation_work(run: Run, imports: Imports, services: Services):
    commands = [shlex.split(line) for line in commands_of("backup.md") if "footfall archive" in line]
    assert len(commands) == 3
    imports.run("umami_website_event.csv")
    services.segments.builder.build_site("shop", everything=True)
    for words in commands:
        ran = run(*words[words.index("archive") + 1 :])
        assert ran.exit_code == 0, ran.output


def test_an_archive_that_cannot_be_used_is_named(run: Run, imports: Imports, services: Services):
    imports.run("umami_website_event.csv")
    services.segments.builder.build_site("shop", everything=True)
    for words, archive, said in (
        (("run",), "", "ARCHIVE is not set"),
        (("run",), "/dev/null/archive", "archive is unavailable: NotADirectoryError"),
        (("list",), "/dev/null/archive", "archive is unavailable: NotADirectoryError"),
    ):
        ran = run(*words, archive=archive)
        assert (ran.exit_code, said in ran.stderr) == (1, True), ran.output
