"""The running system sends one alert and one summary, exactly once, though its workers are killed."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest
from pymongo.database import Database

from analytics.journal.journal import FIELD, JOURNAL_KEY
from tests.support.receivers import Mailbox, smtp_server
from tests.support.running_system import System, kill_if_there, system_running, wait_for
from tests.support.services import ADMIN_KEY

HEADERS = {"Authorization": f"Bearer {ADMIN_KEY}"}


@pytest.fixture(scope="module")
def mailbox() -> Iterator[Mailbox]:
    """It stops at the first command, so that no notification is sent before the test lets it."""
    with smtp_server() as mailbox:
        mailbox.stops_at = "EHLO"
        yield mailbox


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory, mailbox: Mailbox) -> Iterator[System]:
    folder: Path = tmp_path_factory.mktemp("notifying")
    settings = {"SMTP_URL": mailbox.url, "MAIL_FROM": "footfall@example.com", "ADMIN_KEY": ADMIN_KEY}
    with system_running(folder, CLAIM_IDLE="5", PUBLIC_URL="https://stats.example.com", **settings) as system:
        yield system


def add(system: System, kind: str) -> str:
    rule = {"site_id": "shop", "kind": kind, "channel": "email", "target": "ann@example.com"}
    answer = httpx.post(f"{system.report}/admin/notifications/rules", headers=HEADERS, json=rule)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["id"])


def log(system: System) -> list[dict[str, Any]]:
    answer = httpx.get(f"{system.report}/admin/notifications", headers=HEADERS)
    return list(answer.json()["notifications"])


def kill_workers(system: System) -> None:
    for process in system.part("tasks worker"):
        kill_if_there(process)


def forget_lease(database: Database[dict[str, Any]]) -> None:
    """Ends the lease of a killed worker, which otherwise lasts two minutes."""
    database["notifications"].update_many({"state": "sending"}, {"$set": {"due_at": datetime.now(UTC)}})


@pytest.mark.timeout(300)
def test_an_alert_and_a_summary_arrive_once_though_workers_are_killed_between_the_steps(
    system: System, mailbox: Mailbox
):
    event = {"site_id": "shop", "event_type": "pageview", "user_id": "ann", "path": "/"}
    assert httpx.post(f"{system.ingest}/event", json=event).status_code == 200
    with system.database() as database:
        wait_for(lambda: database["events"].count_documents({}) == 1, "the event")
        summary, _ = add(system, "weekly"), add(system, "dead_letters")
        long_ago = datetime.now(UTC) - timedelta(days=30)
        database["notification_rules"].update_one({"_id": UUID(summary)}, {"$set": {"created_at": long_ago}})
        account = f"{datetime.now(UTC):%Y-%m-%d} shop"
        system.redis().xadd(JOURNAL_KEY, {FIELD: b"not json", b"account": account})
        wait_for(lambda: database["dead_letters"].count_documents({}) == 1, "the dead letter")
        wait_for(lambda: len(log(system)) == 2, "both notifications", 100)
        for mailbox.stops_at in ("EHLO", "MAIL", "RCPT"):
            mailbox.reached.clear()
            forget_lease(database)
            assert mailbox.reached.wait(60)
            kill_workers(system)
        mailbox.stops_at = ""
        mailbox.resumed.set()
        forget_lease(database)
        wait_for(lambda: [each["state"] for each in log(system)] == ["sent", "sent"], "both", 60)
    subjects = sorted(str(message["Subject"]) for message in mailbox.messages)
    assert len({message["Message-ID"] for message in mailbox.messages}) == 2
    assert subjects[-1] == "shop: 1 dead letter"
    assert subjects[0].startswith("shop: 0 visitors in the week of ")
    assert len(subjects) == 2


def test_the_command_sends_a_test_and_shows_the_log(system: System, mailbox: Mailbox):
    made = system.run_footfall("notifications", "add", "shop", "lag", "email", "bob@example.com")
    assert made.returncode == 0, made.stderr
    rule = made.stdout.strip()
    assert rule in system.run_footfall("notifications", "list", "--site", "shop").stdout
    tested = system.run_footfall("notifications", "test", rule)
    assert (tested.returncode, tested.stdout) == (0, "sent to bob@example.com\n"), tested.stderr
    assert mailbox.messages[-1]["To"] == "bob@example.com"
    assert "shop: a test notification" in system.run_footfall("notifications", "log", "--limit", "1").stdout
    assert system.run_footfall("notifications", "remove", rule).returncode == 0
    again = system.run_footfall("notifications", "test", rule)
    assert (again.returncode, again.stderr.strip()) == (
        1,
        f"footfall: there is no rule {rule}. List them with `python -m footfall notifications list`.",
    )
