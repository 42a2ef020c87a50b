"""The previous release and this one on the same stores: processes are replaced one by one while events arrive."""

import os
import shlex
import signal
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from click import Command
from click.testing import CliRunner
from pymongo.database import Database
from redis import Redis

from analytics.events.event import PACKED, id_from_client
from analytics.journal.journal import FIELD, JOURNAL_KEY
from analytics.store_notes import STORE_FORMAT
from config.settings import Settings
from footfall.audit import audit_command
from footfall.upgrade import upgrade_command
from tests.support.previous_release import unpack_previous_release
from tests.support.running_system import BIN, ROOT, own_environment, pick_ports, running_alone, wait_for
from tests.system.test_deployment import PROCFILE
from tests.system.test_deploys import answers, stop

SITE = "rolling"
OTHER = {"previous": "current", "current": "previous"}
PARTS = {"ingest": ("ingest",), "worker": ("worker", "beat")}  # what is replaced at once
PORTS = ("INGESTION_PORT", "REPORTING_PORT", "WORKER_METRICS_PORT")
# Each step replaces one part by the other version. Together they pass through all mixtures, and go back once. The
# reporting apps of both versions run all the time.
STEPS = ("worker", "ingest", "worker", "worker")
QUESTIONS: list[dict[str, Any]] = [
    {"metrics": ["visitors", "visits", "pageviews", "events", "bounce_rate", "visit_duration", "views_per_visit"]},
    {"metrics": ["visitors", "events"], "dimensions": ["event:page"]},
    {"metrics": ["visits"], "dimensions": ["visit:source"]},
    {"metrics": ["visits"], "dimensions": ["visit:browser"]},
    {"metrics": ["events"], "dimensions": ["event:props:plan"]},
    {"metrics": ["pageviews"], "dimensions": ["time:hour"]},
]
HEADERS = {"User-Agent": "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0"}


class Deployment:
    """The processes of both versions on the same stores. `version` says which one serves each part."""

    def __init__(self, previous: Path, stores: dict[str, str], folder: Path) -> None:
        self.version = dict.fromkeys(PARTS, "previous")
        self._folders = {"previous": previous, "current": ROOT}
        self._log = folder / "log"
        self._stack = ExitStack()
        self._serving: dict[str, list[psutil.Popen]] = {}
        self._environments: dict[str, dict[str, str]] = {}
        for version in self._folders:
            (folder / version).mkdir()
            ports = dict(zip(PORTS, map(str, pick_ports(len(PORTS))), strict=True))
            self._environments[version] = stores | ports | {"TMPDIR": str(folder / version)}

    def __enter__(self) -> "Deployment":
        for version in self._folders:
            self._run("report", version)
        for part in PARTS:
            self.start(part, "previous")
        for url in self.reports:
            wait_for(lambda url=url: answers(httpx.URL(url).port), f"the reports of {url}")
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def ingestion(self) -> str:
        return self._url("INGESTION_PORT", self.version["ingest"])

    @property
    def reports(self) -> list[str]:
        return [self._url("REPORTING_PORT", version) for version in self._folders]

    def start(self, part: str, version: str) -> None:
        self._serving[part] = [self._run(name, version) for name in PARTS[part]]
        if part == "ingest":
            port = int(self._environments[version]["INGESTION_PORT"])
            wait_for(lambda: answers(port), f"the {version} ingestion")
        self.version[part] = version

    def stop(self, part: str) -> None:
        for process in self._serving.pop(part):
            stop(process, signal.SIGTERM)

    def replace(self, part: str) -> None:
        """Starts the other version, and then stops the one that was there."""
        before = self._serving[part]
        self.start(part, OTHER[self.version[part]])
        for process in before:
            stop(process, signal.SIGTERM)

    def refusal(self, name: str) -> str:
        """What a process of the previous version prints that does not start."""
        environment = own_environment() | {"PATH": f"{BIN}:{os.environ['PATH']}"} | self._environments["previous"]
        ran = subprocess.run(
            shlex.split(PROCFILE[name]),
            cwd=self._folders["previous"],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert ran.returncode != 0
        return ran.stderr

    def _run(self, name: str, version: str) -> psutil.Popen:
        line = PROCFILE[name].replace("worker@", f"{version}@")
        line = f"env --chdir={self._folders[version]} {line}"
        return self._stack.enter_context(running_alone(line, self._log, **self._environments[version]))

    def _url(self, port: str, version: str) -> str:
        return f"http://127.0.0.1:{self._environments[version][port]}"


class Sender:
    """Sends events from a thread, one after the other. Those of each period have an hour of their own, so that the hour
    is quiet afterwards and a segment is built of it.
    """

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment
        # All of one day: an anonymous visitor is another one on the next day.
        self._hour = datetime.now(UTC).replace(hour=22, minute=0, second=0, microsecond=0) - timedelta(days=1)
        self.day = f"{self._hour:%Y-%m-%d}"
        self.sent: list[str] = []
        self.hours: Counter[str] = Counter()

    @contextmanager
    def sending(self) -> Iterator[None]:
        ended, failures = threading.Event(), []

        def send_all() -> None:
            try:
                while not ended.wait(0.005):
                    self.send()
            except (AssertionError, httpx.HTTPError) as error:
                failures.append(error)

        thread = threading.Thread(target=send_all)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
        assert failures == []
        self._hour -= timedelta(hours=1)

    def send(self) -> None:
        number = len(self.sent)
        at = self._hour + timedelta(milliseconds=number)
        body = {
            "site_id": SITE,
            "event_id": f"{number}",
            "event_type": "pageview",
            "timestamp": at.isoformat(),
            "url": f"https://shop.example/page/{number % 7}?utm_source=news&utm_medium=mail",
            "props": {"plan": "pro" if number % 3 else "free", "price": 1.5, "größe": "ä" * (number % 40)},
            "revenue": {"amount": "49.90", "currency": "USD"},
        }
        body |= {"user_id": f"user {number % 5}"} if number % 2 else {}
        answer = httpx.post(f"{self._deployment.ingestion}/event", json=body, headers=HEADERS)
        assert answer.status_code == 200, answer.text
        self.sent.append(f"{number}")
        self.hours[f"{self._hour:%Y-%m-%d %H:%M:%S}"] += 1


def ask(report: str, day: str) -> list[Any]:
    """The answers of a reporting app to all questions about a day."""
    found = []
    for question in QUESTIONS:
        query = {"site_id": SITE, "date_range": [day, day]} | question
        answer = httpx.post(f"{report}/api/v2/query", json=query, timeout=30)
        assert answer.status_code == 200, answer.text
        found.append(answer.json()["results"])
    return found


def run(command: Command, settings: Settings) -> str:
    ran = CliRunner().invoke(command, obj=settings)
    assert ran.exit_code == 0, ran.output
    return ran.output


@pytest.fixture
def deployment(
    redis: Redis, database: Database[dict[str, Any]], settings: Settings, tmp_path: Path
) -> Iterator[Deployment]:
    """Starts on empty stores."""
    previous = unpack_previous_release(tmp_path / "release")
    stores = {"REDIS_URL": settings.redis_url, "MONGODB_URI": settings.mongodb_uri, "DATA_DIR": str(tmp_path)}
    with Deployment(previous, stores, tmp_path) as deployment:
        yield deployment


def test_versions_replaced_in_any_order_lose_double_and_misread_no_event(
    redis: Redis, database: Database[dict[str, Any]], settings: Settings, deployment: Deployment
):
    sender = Sender(deployment)

    def check() -> None:
        wait_for(lambda: redis.xlen(JOURNAL_KEY) == 0, f"an empty journal with {deployment.version}", 60)
        stored = [document["_id"] for document in database["events"].find({"site_id": SITE}, {"_id": 1})]
        assert sorted(stored) == sorted(id_from_client(SITE, event_id) for event_id in sender.sent)
        assert list(database["dead_letters"].find()) == []
        (totals, *_), *_, hours = results = ask(deployment.reports[0], sender.day)
        assert totals["metrics"][0] == 6, "five users, and one anonymous visitor whichever version named it"
        assert {row["dimensions"][0]: row["metrics"][0] for row in hours} == sender.hours
        assert ask(deployment.reports[1], sender.day) == results
        run(audit_command, settings)

    def segments() -> int:
        return sum(len(manifest.get("segments", ())) for manifest in database["segment_manifests"].find({"_id": SITE}))

    with sender.sending():
        wait_for(lambda: len(sender.sent) > 100, "the first events")
    check()
    wait_for(segments, "a segment of the previous version")
    for part in STEPS:
        with sender.sending():
            deployment.replace(part)
        check()
    assert set(deployment.version.values()) == {"current"}
    wait_for(lambda: database["dirty_hours"].count_documents({}) == 0, "segments of all hours", 90)
    check()

    assert "Now: format 2" in run(upgrade_command, settings)
    deployment.stop("worker")
    with sender.sending():
        wait_for(lambda: redis.xlen(JOURNAL_KEY) > 50, "waiting events")
    assert redis.xrevrange(JOURNAL_KEY, count=1)[0][1][FIELD].startswith(PACKED)
    for name in ("ingest", "worker"):
        assert f"has format {STORE_FORMAT}, and this version of Footfall reads 1 at most" in deployment.refusal(name)
    deployment.start("worker", "current")
    check()
