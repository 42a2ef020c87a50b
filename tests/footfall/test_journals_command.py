"""`python -m footfall journals`, on real stores."""

import json
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from typing import Any

import pytest
from click.testing import CliRunner, Result
from pymongo.database import Database
from redis import Redis

from analytics.diagnostics.upkeep import left_out_journals
from analytics.events.schema import load_event
from analytics.journal.journal import Line
from analytics.pipeline import store_waiting
from analytics.sites.site import Site
from config.services import Services
from config.settings import Settings
from footfall.doctor import doctor
from footfall.embedded_servers import pick_port
from footfall.journals import journals_group
from footfall.store_checks import read_mongodb_of
from tests.support.services import NOW, make_services

SITES = [f"site-{n}" for n in range(10)]

Run = Callable[..., Result]


@pytest.fixture
def several(settings: Settings) -> Settings:
    return replace(settings, journal_urls=f"b={settings.redis_url.removesuffix('/0')}/1")


@pytest.fixture
def services(several: Settings, redis: Redis, database: Database[dict[str, Any]]) -> Iterator[Services]:
    with closing(make_services(several, redis=redis, database=database)) as services:
        for site in SITES:
            services.sites.put(Site(site))
            services.journal.append([Line.of(load_event({"site_id": site, "event_type": "pageview"}, NOW))])
        yield services


@pytest.fixture
def run(several: Settings, services: Services) -> Run:
    def run(*words: str, **changed: str) -> Result:
        return CliRunner().invoke(journals_group, words, obj=replace(several, **changed))

    return run


def test_the_list_has_the_sites_and_the_events_of_each_journal(run: Run, services: Services, several: Settings):
    expected = [sum(services.journal.part_of(site) is part for site in SITES) for part in services.journal.parts]
    assert all(expected)
    first, second = json.loads(run("list", "--json").stdout)["journals"]
    assert [first["name"], second["name"]] == ["main", "b"]
    assert [first["server"], second["server"]] == [several.redis_url, several.redis_url.removesuffix("0") + "1"]
    assert [each["sites"] for each in (first, second)] == [each["waiting"] for each in (first, second)] == expected
    assert second["of_others"] == 0
    assert second["used"] > 0
    closing_one = f"-{several.journal_urls}"
    first, second = json.loads(run("list", "--json", journal_urls=closing_one).stdout)["journals"]
    assert (second["takes_events"], second["sites"], second["of_others"]) == (False, 0, expected[1])
    table = run("list", journal_urls=closing_one).stdout.splitlines()
    assert [line.split()[0] for line in table] == ["journal", "main", "-b"]


def test_a_journal_that_does_not_answer_is_shown_beside_the_others(run: Run):
    result = run("list", journal_urls=f"b=redis://user:secret@127.0.0.1:{pick_port(0)}/0")
    assert result.exit_code == 1
    _, first, second = result.stdout.splitlines()
    assert first.startswith("main ")
    assert "redis is unavailable" in second
    assert "secret" not in result.output


def test_the_journal_of_a_site(run: Run, services: Services):
    for site in SITES:
        assert run("of", site).stdout.strip() == (services.journal.part_of(site).name or "main")


def test_a_journal_is_removed_when_it_is_closed_and_empty(
    run: Run, services: Services, several: Settings, settings: Settings
):
    assert run("remove", "c").stderr == "footfall: JOURNAL_URLS has no journal c.\n"
    assert "The journal b takes events" in run("remove", "b").stderr
    closed = f"-{several.journal_urls}"
    assert "wait in the journal b" in run("remove", "b", journal_urls=closed).stderr
    while services.journal.waiting():
        store_waiting(services.stores, "task")
    before, site = services.ledger.read(), next(x for x in SITES if services.journal.part_of(x).name == "b")
    last = services.ledger.last_received(site)
    for _ in range(2):
        assert run("remove", "b", journal_urls=closed).stdout.startswith("The journal b is empty.")
    with closing(make_services(settings)) as later:
        assert later.ledger.read() == before
        assert later.ledger.last_received(site) == last


def test_the_doctor_checks_the_redis_of_each_journal(run: Run, several: Settings):
    urls = f"{several.journal_urls},c=redis://127.0.0.1:{pick_port(0)}/0"
    checks = json.loads(CliRunner().invoke(doctor, ["--json"], obj=replace(several, journal_urls=urls)).stdout)[
        "checks"
    ]
    states = {check["check"]: check["state"] for check in checks}
    assert (states["journal b"], states["redis append only of b"], states["journal c"]) == ("ok", "ok", "problem")
    assert "beat of b" not in states
    (away,) = [check for check in checks if check["check"] == "journal c"]
    assert away["remedy"] == "Start it, or correct JOURNAL_URLS."


def test_a_journal_that_is_missing_and_was_not_removed_is_a_problem(
    run: Run, services: Services, several: Settings, settings: Settings
):
    """Its events wait in a server that no worker asks."""

    def check(given: Settings) -> tuple[str, str]:
        found = left_out_journals(read_mongodb_of(given))
        return found.state, found.what

    services.store_notes.note_journals(["b"])  # as a worker does when it starts
    assert check(settings) == ("problem", "JOURNAL_URLS has no journal b. Events that wait there are not stored.")
    closed = f"-{several.journal_urls}"
    assert (check(several)[0], check(replace(several, journal_urls=closed))[0]) == ("ok", "ok")
    assert run("remove", "b", journal_urls=closed).exit_code == 1, "events wait"
    assert check(settings)[0] == "problem"
    while services.journal.waiting():
        store_waiting(services.stores, "task")
    assert run("remove", "b", journal_urls=closed).exit_code == 0
    assert check(settings)[0] == "ok"
