"""`python -m footfall demo`, on a real system: the dashboard shows what was sent."""

import os
import pty
import re
import signal
import subprocess
import sys
from collections import Counter
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from footfall.demo_traffic import DEMO_SITES, DemoSite, day_events
from tests.support.running_system import ROOT, System, own_environment, wait_for

DAYS = 3


@pytest.fixture(scope="module")
def filled(system: System) -> System:
    """A system with a short demo."""
    done = system.run_footfall("demo", "--days", str(DAYS))
    assert done.returncode == 0, done.stderr
    assert f"The dashboard: {system.report}/site/demo-shop" in done.stdout
    return system


def numbers(system: System, site: DemoSite, day: str, *metrics: str, filters: Any = ()) -> list[Any]:
    body = {"site_id": site.site_id, "metrics": metrics, "date_range": [day, day], "filters": filters}
    answer = httpx.post(f"{system.report}/api/v2/query", json=body, timeout=30)
    return answer.json()["results"][0]["metrics"]


@pytest.mark.parametrize("site", DEMO_SITES, ids=lambda site: site.site_id)
def test_the_numbers_of_a_day_are_those_that_were_sent(filled: System, site: DemoSite):
    now = datetime.now(UTC)
    day = now.astimezone(site.zone).date() - timedelta(days=1)
    sent = [
        event
        for begun in (day - timedelta(days=1), day)  # visits continue after midnight
        for event in day_events(site, begun, DAYS, now, now.astimezone(site.zone).date())
        if event["screen"]  # bots have none
        if datetime.fromisoformat(event["timestamp"]).astimezone(site.zone).date() == day
    ]
    count = Counter(event["event_type"] for event in sent)
    who = {event.get("user_id") or (event["ip"], event["user_agent"]) for event in sent}
    assert numbers(filled, site, day.isoformat(), "pageviews", "visitors") == [count["pageview"], len(who)]
    for goal in site.settings["goals"]:
        name = goal.get("name", goal.get("event_type"))
        viewed = [urlsplit(e["url"]).path for e in sent if e["event_type"] == "pageview"]
        events = numbers(filled, site, day.isoformat(), "events", filters=[["is", "event:goal", [name]]])
        assert events == [count[goal["event_type"]] if "event_type" in goal else viewed.count(goal["page"])]
    figures = httpx.get(f"{filled.report}/parts/hero/{site.site_id}", params={"from": day, "to": day}, timeout=30).text
    assert f'<span class="k">Visitors</span><span class="v">{len(who):,}</span>' in figures


def test_a_second_run_counts_no_event_twice(filled: System):
    def totals() -> list[Any]:
        day = (datetime.now(UTC) - timedelta(days=1)).date().isoformat()
        return [numbers(filled, site, day, "events", "visitors") for site in DEMO_SITES]

    before = totals()
    assert filled.run_footfall("demo", "--days", str(DAYS)).returncode == 0
    assert totals() == before


def test_a_later_run_keeps_the_launch(filled: System):
    day = {"day": (datetime.now(UTC) - timedelta(days=10)).date().isoformat()}
    with filled.database() as database:
        database["annotations"].update_many({}, {"$set": day})
        assert filled.run_footfall("demo", "--days", str(DAYS)).returncode == 0
        assert [each["day"] for each in database["annotations"].find()] == [day["day"]] * len(DEMO_SITES)


def test_a_terminal_shows_the_progress_and_a_browser_opens_the_dashboard(filled: System, tmp_path: Path):
    opened, browser = tmp_path / "opened", tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" > {opened}\n')
    browser.chmod(0o755)
    desktop = {"TERM": "xterm", "DISPLAY": ":0", "BROWSER": str(browser)}
    controller, terminal = pty.openpty()
    demo = subprocess.Popen(
        [sys.executable, "-m", "footfall", "demo", "--days", "2"],
        cwd=ROOT, env=own_environment() | filled.environment | desktop,
        stdin=terminal, stdout=terminal, stderr=terminal,
    )  # fmt: skip
    os.close(terminal)
    shown = b"".join(iter(partial(_read, controller), b"")).decode()
    os.close(controller)
    assert demo.wait(timeout=60) == 0, shown
    percents = [int(each) for each in re.findall(r"Sending  \[[#-]*\] +(\d+)%", shown)]
    assert percents == sorted(percents)
    assert {33, 50, 66, 100} <= set(percents)
    assert re.search(r"Building  \[#+\] +100%", shown)
    assert opened.read_text().strip() == f"{filled.report}/site/demo-shop"


def _read(terminal: int) -> bytes:
    """What the program wrote. Empty if it has ended: Linux then answers with an error."""
    try:
        return os.read(terminal, 65536)
    except OSError:
        return b""


def test_the_key_is_revoked_and_the_demo_can_be_removed(filled: System):
    keys = filled.run_footfall("keys", "list").stdout
    assert "demo" in keys
    assert "active" not in keys
    removed = filled.run_footfall("demo", "--remove")
    assert removed.returncode == 0, removed.stderr
    with filled.database() as database:
        assert database["events"].count_documents({}) == 0
        assert database["sites"].count_documents({}) == 0


def test_it_starts_the_system_and_stops_it_when_interrupted(tmp_path: Path):
    system = System(tmp_path)
    output = tmp_path / "demo.out"
    with output.open("wb") as file:
        demo = subprocess.Popen(
            [sys.executable, "-m", "footfall", "demo", "--days", "1"],
            cwd=ROOT, env=own_environment() | system.environment, stdout=file, stderr=file,
        )  # fmt: skip
    try:
        wait_for(lambda: "Ctrl-C stops" in output.read_text() or demo.poll() is not None, "the demo", 90)
        assert demo.poll() is None, output.read_text()
        assert httpx.get(f"{system.report}/site/demo-app?period=day").status_code == 200
        demo.send_signal(signal.SIGINT)
        assert demo.wait(timeout=60) == 0
        assert "everything has stopped" in (tmp_path / "var" / "demo.log").read_text()
    finally:
        demo.terminate()
        demo.wait(timeout=60)


def test_a_system_that_does_not_start_is_reported(tmp_path: Path):
    system = System(tmp_path, MONGODB_URI="mongodb://127.0.0.1:1/footfall?serverSelectionTimeoutMS=100")
    done = system.run_footfall("demo", "--days", "1")
    assert done.returncode == 1
    assert "the system did not start. Read" in done.stderr
