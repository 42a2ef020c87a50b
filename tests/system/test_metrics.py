"""The metrics of the running system: each page adds up the numbers of all processes of a service."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from analytics.journal.journal import JOURNAL_KEY
from analytics.sites.registry import SiteRegistry
from tests.support.running_system import System, frozen, kill_if_there, system_running, wait_for

KEY = "a-key-for-tests-only"
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    with system_running(tmp_path_factory.mktemp("system"), ADMIN_KEY=KEY) as system:
        yield system


def read(url: str) -> dict[tuple[str, ...], float]:
    """Samples by name and label values."""
    page = httpx.get(f"{url}/metrics", headers={"Authorization": f"Bearer {KEY}"})
    assert page.status_code == 200, page.text
    families = text_string_to_metric_families(page.text)
    return {(x.name, *x.labels.values()): x.value for family in families for x in family.samples}


def test_the_metrics_count_the_outcomes_of_events(system: System):
    worker = f"http://127.0.0.1:{system.ports['WORKER_METRICS_PORT']}"
    good = {"site_id": "site", "event_type": "page_view"}
    for n in range(20):
        httpx.post(f"{system.ingest}/event", json=good | {"event_id": f"{n % 19}"})
    httpx.post(f"{system.ingest}/events", json=[good, {}])
    system.redis().xadd(JOURNAL_KEY, {"not": "ours"})

    stored, dead = ("footfall_events_total", "stored", ""), ("footfall_events_total", "dead", "not_json")
    wait_for(lambda: read(worker).get(stored) == 20 and read(worker).get(dead) == 1, "20 stored, 1 dead", 10)
    seen = read(worker)
    assert seen["footfall_events_total", "duplicate", ""] == 1
    assert seen["footfall_store_lag_seconds_count",] >= 1
    assert seen["footfall_task_seconds_count", "store_events"] >= 1
    assert seen["footfall_task_seconds_count", "announce_dead_letter"] == 1

    collector = read(system.ingest)
    assert collector["footfall_events_total", "accepted", ""] == 21
    assert collector["footfall_events_total", "rejected", "invalid_event"] == 1
    assert collector["footfall_commit_events_sum",] == 22
    assert 1 <= collector["footfall_commit_seconds_count",] <= 21
    assert (collector["footfall_journal_events",], collector["footfall_journal_oldest_seconds",]) == (0, 0)
    assert collector["footfall_store_up", "redis"] == 1

    report = read(system.report)
    assert report["footfall_dead_letters", "not_json"] == 1
    assert report["footfall_store_up", "mongodb"] == 1


def test_the_counts_of_a_killed_process_are_kept(system: System):
    before = read(system.ingest)["footfall_events_total", "accepted", ""]
    for process in system.part("ingest_app")[1:]:
        kill_if_there(process)
    body = {"site_id": "site", "event_type": "page_view"}

    def posted() -> bool:
        try:
            return httpx.post(f"{system.ingest}/event", json=body).status_code == 200
        except httpx.HTTPError:
            return False

    wait_for(posted, "the next process")
    assert read(system.ingest)["footfall_events_total", "accepted", ""] == before + 1


def test_waiting_events_are_counted_and_an_unreachable_store_hides_only_its_own_gauges(system: System):
    journal = system.redis()
    wait_for(lambda: journal.xlen(JOURNAL_KEY) == 0, "an empty journal")
    with frozen(system.part("tasks worker")):
        httpx.post(f"{system.ingest}/event", json={"site_id": "site", "event_type": "page_view"})
        name = ("footfall_journal_oldest_seconds",)
        collector = wait_for(lambda: (page := read(system.ingest))[name] > 0.1 and page, "its age")
    assert collector["footfall_journal_events",] == 1
    with frozen(system.part("mongod")):
        report = read(system.report)
    assert report["footfall_store_up", "mongodb"] == 0
    assert ("footfall_dead_letters", "not_json") not in report


def test_events_that_redis_does_not_take_count_as_refused(system: System):
    refused = ("footfall_events_total", "refused", "redis")
    before = read(system.ingest).get(refused, 0)
    with frozen(system.part("redis-server")):
        answer = httpx.post(f"{system.ingest}/event", json={"site_id": "site", "event_type": "page_view"}, timeout=10)
    assert answer.status_code == 503
    wait_for(lambda: read(system.ingest).get(refused) == before + 1, "the refused event")


def test_every_page_needs_the_key(system: System):
    for url in (system.ingest, system.report, f"http://127.0.0.1:{system.ports['WORKER_METRICS_PORT']}"):
        for headers in ({}, {"Authorization": "Bearer wrong"}):
            assert httpx.get(f"{url}/metrics", headers=headers).status_code == 401
    assert KEY not in system.output()


def test_an_api_key_for_metrics_reads_every_page_and_no_secret_is_logged(system: System):
    pages = (system.ingest, system.report, f"http://127.0.0.1:{system.ports['WORKER_METRICS_PORT']}")

    def made(*scopes: str) -> str:
        asked, admin = {"name": "a scraper", "scopes": scopes}, {"Authorization": f"Bearer {KEY}"}
        return httpx.post(f"{system.report}/admin/keys", headers=admin, json=asked).json()["key"]

    def statuses(secret: str) -> list[int]:
        headers = {"Authorization": f"Bearer {secret}"}
        return [httpx.get(f"{page}/metrics", headers=headers).status_code for page in pages]

    scraper, reader = made("metrics"), made("stats:read")
    assert statuses(scraper) == [200, 200, 200]
    assert statuses(reader) == [403, 403, 401]
    assert not any(secret in system.output() for secret in (KEY, scraper, reader))


def test_a_worker_that_starts_publishes_the_sites(system: System):
    registry = SiteRegistry(system.redis(), required=True)
    assert registry.get("nobody") is None  # if nothing were published, this would raise Unavailable


def test_flower_s_own_metrics_are_still_there(system: System):
    assert "flower_worker_online" in httpx.get(f"{system.flower}/metrics").text


def test_every_metric_has_its_line_in_the_docs():
    declared = [sys.executable, "-c", "import config.metrics as m, prometheus_client as p; "
        "print(*[f.name for f in p.REGISTRY.collect() if f.name.startswith('footfall')], "
        "*[g.name for g in [*m.journal_gauges(0, 0), *m.segment_gauges(0, 0)]], "
        "*[g.name for g in [m.dead_letter_gauge([]), m.store_gauge([])]])"]  # fmt: skip
    names = subprocess.run(declared, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    assert len(names) == 19
    page = (ROOT / "docs/operating.md").read_text()
    assert [name for name in names if f"`{name}" not in page] == []
