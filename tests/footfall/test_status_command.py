"""`python -m footfall status` and `rates`, on real stores, and `workers` without a worker."""

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result
from pymongo.database import Database
from redis import Redis

from analytics.events.schema import load_event
from analytics.journal.journal import Journal, Line
from analytics.journal.ledger import Ledger
from analytics.journal.samples import SAMPLES_KEY, Samples
from analytics.journal.totals import Totals
from config.settings import Settings
from footfall.embedded_servers import pick_port
from footfall.status import rates_command, status_command

Run = Callable[..., Result]


@pytest.fixture
def run(settings: Settings, redis: Redis, database: Database[dict[str, Any]]) -> Run:
    def run(command: click.Command, *words: str, **changed: str) -> Result:
        return CliRunner().invoke(command, words, obj=replace(settings, **changed))

    return run


def wait_in(journal: Journal) -> None:
    event = {"site_id": "shop", "event_type": "pageview", "path": "/"}
    journal.append([Line.of(load_event(event, datetime.now(UTC)))])


def test_the_status_has_the_journal_and_the_events_of_today(run: Run, journal: Journal):
    wait_in(journal)
    found = json.loads(run(status_command, "--json").stdout)
    assert (found["waiting_events"], found["accepted_today"], found["stored_today"]) == (1, 1, 0)
    assert 0 <= found["oldest_waits_seconds"] < 60
    assert "waiting events" in run(status_command).stdout


def test_the_rates_have_a_line_for_each_part(run: Run, journal: Journal, redis: Redis, database):
    wait_in(journal)
    Samples(redis, journal, Ledger(redis, database), lambda: datetime.now(UTC)).take()
    lines = run(rates_command, "--length", "day").stdout.splitlines()
    assert len(lines) == 1 + 96
    assert lines[-1].split()[2:7] == ["-", "-", "-", "-", "1.0"]


def test_the_rates_have_the_events_that_do_not_count(run: Run, redis: Redis):
    now = datetime.now(UTC)
    for minutes, totals in ((2, Totals()), (1, Totals(accepted=9, stored=4, dead=2, left_out=3))):
        taken = f"{int((now - timedelta(minutes=minutes)).timestamp() * 1000)}-0"
        by_day = json.dumps({now.date().isoformat(): asdict(totals)})
        redis.xadd(SAMPLES_KEY, {"waiting": 0, "lag": 0, "totals": by_day}, id=taken)
    head, *rows = run(rates_command).stdout.splitlines()
    assert head.split()[2:] == ["accepted", "stored", "left", "out", "dead", "waiting", "lag", "in", "s"]
    assert [row.split()[2:6] for row in rows if row.split()[2] != "-"] == [["9.0", "4.0", "3.0", "2.0"]]


@pytest.mark.parametrize("command", [status_command, rates_command])
def test_a_store_that_is_away_is_named(run: Run, command: click.Command):
    result = run(command, redis_url=f"redis://127.0.0.1:{pick_port(0)}/0")
    assert result.exit_code == 1
    assert "Redis does not answer" in result.stderr
