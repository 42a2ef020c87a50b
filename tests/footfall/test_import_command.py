"""`python -m footfall import` and `imports`, on real stores. tests/system/test_documented_commands.py runs whole
imports.
"""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from pymongo.database import Database
from redis import Redis

from analytics.imports.importer import ImportPlan
from analytics.pipeline import store_waiting
from analytics.sites.site import Site
from config.services import Services
from config.settings import Settings
from footfall.embedded_servers import pick_port
from footfall.imports import import_command, imports_group
from tests.analytics.imports.conftest import SAMPLES, Imports, imports
from tests.analytics.imports.test_plausible_export import zipped

__all__ = ["imports"]

Run = Callable[..., Result]


@pytest.fixture
def run(settings: Settings, redis: Redis, database: Database[dict[str, Any]]) -> Run:
    def run(*words: object, given: Settings = settings) -> Result:
        command = import_command if words[0] == "import" else imports_group
        return CliRunner().invoke(command, [str(word) for word in words[1:]], obj=given)

    return run


def test_a_dry_run_shows_the_mapping_the_first_events_and_what_is_left_out(run: Run, services: Services):
    services.sites.put(Site("shop", domains=("shop.example",)))
    ran = run("import", SAMPLES / "access.log", "--site", "shop.example", "--dry-run")
    assert ran.exit_code == 0, ran.output
    lines = ran.stdout.splitlines()
    assert lines[0] == "Format: access log (combined, nginx in JSON, or Caddy). Site: shop."
    assert "  a successful GET of a page         -> pageview" in lines
    assert "10 rows. The first of 5 events:" in lines
    events = [json.loads(line) for line in lines if line.startswith("  {")]
    assert [event["path"] for event in events[:2]] == ["/", "/pricing"]
    assert lines[-5:] == [
        "  2 left out: not_a_get", "  1 left out: asset", "  1 left out: bot", "  1 left out: not_successful",
        "Nothing was imported.",
    ]  # fmt: skip
    assert run("imports", "list").stdout.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["none.csv", "--site", "shop"], 1, "none.csv: No such file or directory."),
        ([SAMPLES / "access.log", "--site", "shpo"], 1, "There is no site 'shpo'. Did you mean 'shop'?"),
        ([SAMPLES / "access.log", __file__, "--site", "shop"], 1, "No format fits"),
        ([SAMPLES / "access.log", "--site", "shop", "--format", "csv"], 2, "csv"),
        (["--site", "shop"], 2, "FILE"),
    ],
)
def test_a_wrong_import_is_refused_with_the_reason(
    run: Run, services: Services, words: list[object], code: int, said: str
):
    services.sites.put(Site("shop"))
    ran = run("import", *words)
    assert (ran.exit_code, said in ran.stderr) == (code, True), ran.output


def test_imports_are_listed_and_removed(run: Run, imports: Imports):
    record = imports.run("access.log")
    listed = run("imports", "list").stdout.splitlines()
    assert listed[1].split() == [record.id, "2026-11-22", "12:00", "finished", "log", "10", "6", "5", "shop"]
    assert listed[2].strip() == "access.log"
    assert len(run("imports", "list", "--site", "other").stdout.splitlines()) == 1
    removed = run("imports", "remove", record.id, "--yes")
    assert (removed.exit_code, removed.stdout) == (0, "5 events are removed. A worker updates the segments.\n")
    assert (imports.stored(), imports.faults()) == ([], [])
    again = run("imports", "remove", record.id, "--yes")
    assert again.exit_code == 1
    assert again.stderr.startswith(f"footfall: there is no import '{record.id}'. List them with `")


def test_an_import_is_not_removed_while_its_events_wait(run: Run, imports: Imports):
    plan: ImportPlan = imports.plan("access.log")
    record = imports.services.importer.run(plan, lambda: None)
    ran = run("imports", "remove", record.id, "--yes", "--wait", "0.1")
    assert (ran.exit_code, "still wait in the journal" in ran.stderr) == (1, True)
    store_waiting(imports.services.stores, "task")
    assert run("imports", "remove", record.id, "--yes").exit_code == 0
    assert imports.stored() == []


@pytest.mark.usefixtures("usual_limits")
def test_a_store_that_is_not_reachable_is_named(run: Run, settings: Settings, tmp_path: Path):
    away = replace(settings, mongodb_uri=f"mongodb://127.0.0.1:{pick_port(0)}/?serverSelectionTimeoutMS=200")
    for words in (["import", SAMPLES / "access.log", "--site", "shop"], ["imports", "list"]):
        ran = run(*words, given=away)
        assert (ran.exit_code, "MongoDB" in ran.stderr) == (1, True), ran.output


def test_daily_totals_are_shown_imported_listed_and_removed(run: Run, services: Services, tmp_path: Path):
    services.sites.put(Site("shop"))
    file = zipped(tmp_path / "export.zip")
    shown = run("import", file, "--site", "shop", "--dry-run").stdout.splitlines()
    assert shown[0] == "Format: Plausible's export, or other daily totals. Site: shop."
    assert "43 rows. The first of 46 daily totals:" in shown
    assert json.loads(next(line for line in shown if line.startswith("  {"))) == {
        "table": "browsers", "day": "2025-01-01", "browser": "Chrome", "browser_version": "131.0",
        "visitors": 2, "visits": 3, "pageviews": 5, "bounces": 1, "durations": 300,
    }  # fmt: skip
    ran = run("import", file, "--site", "shop")
    assert (ran.exit_code, ran.stdout.splitlines()[-2]) == (0, "43 rows were read, and 46 daily totals were stored.")
    listed = run("imports", "list").stdout.splitlines()
    name, *_, state, form, rows, sent, stored, _ = listed[1].split()
    assert (state, form, rows, sent, stored) == ("finished", "plausible", "43", "46", "46")
    assert "imported_visitors_20250101_20250103.csv" in listed[2]
    removed = run("imports", "remove", name, "--yes")
    assert (removed.exit_code, removed.stdout) == (0, "46 daily totals are removed.\n")
    assert services.aggregates.count(name) == 0
