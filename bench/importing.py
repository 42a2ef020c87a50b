"""`python -m bench.importing`: how many events per second an import brings, and its memory.

For each of FORMATS it writes a file of EVENTS (200,000) rows and imports it in a process of its own. The events go to a
Redis that syncs its file for each write. Instead of a worker, which stores them, this process deletes them, so the
number is that of the importer alone.

It then imports files of STORED (40,000) rows into a running system, TURNS (3) times, until all events are stored. In
turns with the imports it sends Footfall's export in batches over HTTP, which is the speed of the pipeline.
"""

import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from uuid import UUID

import httpx

from analytics.imports.formats import detect
from analytics.imports.importer import ImportPlan
from analytics.imports.source import SourceFile
from analytics.journal.journal import JOURNAL_KEY
from analytics.journal.site_shares import HELD
from analytics.sites.site import Site
from bench.hits import user_agents, weights
from bench.ingestion import machine
from config.services import Services
from config.settings import Settings
from footfall.embedded_servers import mongo_server, pick_port, redis_server
from tests.support.running_system import System, running, wait_for

EVENTS = int(os.environ.get("EVENTS", "200000"))
STORED = int(os.environ.get("STORED", "40000"))
TURNS = int(os.environ.get("TURNS", "3"))
BATCHES = "in batches over HTTP"
FORMATS = os.environ.get("FORMATS", "log,umami,footfall,ga4")
START = datetime(2026, 10, 1, tzinfo=UTC)
UMAMI = "event_id,website_id,session_id,created_at,url_path,url_query,referrer_domain,event_type,hostname\n"


def main() -> None:
    print(f"# python -m bench.importing, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {machine()}, {EVENTS:,} events\n")
    print("| format | events/s | memory at most, MB |\n|---|---|---|", flush=True)
    for name in FORMATS.split(","):
        subprocess.run([sys.executable, "-m", "bench.importing", name], check=True)
    with tempfile.TemporaryDirectory(prefix="footfall-bench-") as given:
        system = System(Path(given)).start()
        try:
            compare(system, Path(given))
        finally:
            system.stop()
            system.kill()


def compare(system: System, folder: Path) -> None:
    """Print the speed at which events are stored: sent in batches, and imported."""
    names = FORMATS.split(",")
    files = {name: write(name, folder, STORED) for name in {*names, "footfall"}}
    key = system.run_footfall("keys", "create", "bench", "--scope", "events:write").stdout.strip()
    speeds: dict[str, list[float]] = defaultdict(list)
    for turn in range(TURNS):
        since = datetime.now(UTC)
        send(system, files["footfall"], f"batches-{turn}", key)
        speeds[BATCHES].append(stored_rate(system, since))
        for name in names:
            site = f"{name}-{turn}"
            run(system, ["sites", "set", site, "timezone=UTC"])
            run(system, ["import", str(files[name]), "--site", site])
            speeds[name].append(stored_rate(system, begun(system, site)))
    print("\n| stored by a running system | events/s | of the speed in batches |\n|---|---|---|")
    for name, rates in speeds.items():
        shares = (rate / batches for rate, batches in zip(rates, speeds[BATCHES], strict=True))
        print(f"| {name} | {median(rates):,.0f} | {median(shares):.2f} |")


def stored_rate(system: System, since: datetime) -> float:
    """Events a second, from `since` until all are stored."""
    redis = system.redis()
    wait_for(lambda: redis.xlen(JOURNAL_KEY) == 0, "an empty journal", 300)
    return STORED / (datetime.now(UTC) - since).total_seconds()


def begun(system: System, site: str) -> datetime:
    """When the site's import began to read. Its command began a second before."""
    with system.database() as database:
        started: datetime = database["imports"].find_one({"site_id": site})["started_at"]
    return started


def run(system: System, words: list[str]) -> None:
    ran = system.run_footfall(*words)
    assert ran.returncode == 0, ran.stderr


def send(system: System, file: Path, site: str, key: str) -> None:
    """Send an export in batches of a thousand events, two at a time."""
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/x-ndjson"}
    lines = file.read_bytes().replace(b'"site_id": "x"', f'"site_id": "{site}"'.encode()).splitlines(keepends=True)
    with httpx.Client(headers=headers, timeout=60) as client, ThreadPoolExecutor(2) as pool:
        bodies = (b"".join(lines[n : n + 1000]) for n in range(0, len(lines), 1000))
        for answer in pool.map(lambda body: client.post(f"{system.ingest}/events", content=body), bodies):
            assert answer.status_code == 200, answer.text


def write(name: str, folder: Path, count: int) -> Path:
    file = folder / name
    with file.open("w") as rows:
        rows.writelines(WRITERS[name](random.Random(1), count))
    return file


def measure(name: str) -> None:
    with tempfile.TemporaryDirectory(prefix="footfall-bench-") as given:
        folder = Path(given)
        file = write(name, folder, EVENTS)
        redis, mongodb = redis_server(folder / "redis", pick_port(0)), mongo_server(folder / "mongodb", pick_port(0))
        settings = Settings(redis_url=redis.url, mongodb_uri=mongodb.url, data_dir=given)
        with running(redis), running(mongodb), closing(Services(settings)) as services:
            services.store_notes.note_first_start(services.now(), lambda: 0)  # as a new system's worker does
            files = [SourceFile(file)]
            plan = ImportPlan(Site("shop"), detect(files), files)
            start = time.perf_counter()
            sent = services.importer.run(plan, lambda: services.redis.delete(JOURNAL_KEY, HELD)).events
            seconds = time.perf_counter() - start
    assert sent == EVENTS
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
    print(f"| {name} | {sent / seconds:,.0f} | {memory:,.0f} |", flush=True)


def log(chance: random.Random, count: int) -> Iterator[str]:
    agents = user_agents(chance)
    for n, agent in enumerate(chance.choices(agents, weights(agents), k=count)):
        address = f"203.0.{chance.randrange(100)}.{chance.randrange(250)}"
        at = f"{START + timedelta(seconds=n):%d/%b/%Y:%H:%M:%S} +0000"
        path = f"/page/{chance.randrange(500)}?utm_source=news"
        yield f'{address} - - [{at}] "GET {path} HTTP/1.1" 200 5120 "https://www.google.com/" "{agent or "x"}"\n'


def umami(chance: random.Random, count: int) -> Iterator[str]:
    yield UMAMI
    for n in range(count):
        at, who = START + timedelta(seconds=n), UUID(int=chance.randrange(count // 5))
        yield f"{UUID(int=n)},w,{who},{at},/page/{n % 500},utm_source=news,www.google.com,1,shop.example\n"


def footfall(chance: random.Random, count: int) -> Iterator[str]:
    for n in range(count):
        at = (START + timedelta(seconds=n)).isoformat()
        event = {"id": UUID(int=n).hex, "site_id": "x", "event_type": "pageview", "timestamp": at, "received_at": at}
        event |= {
            "hostname": "shop.example",
            "path": f"/page/{n % 500}",
            "visitor_id": f"{chance.getrandbits(64):016x}",
        }
        event |= {"source": "Google", "channel": "Organic Search", "device": "Desktop", "browser": "Firefox"}
        yield json.dumps(event | {"os": "Linux", "country": "DE", "props": {"plan": "pro"}}) + "\n"


def ga4(chance: random.Random, count: int) -> Iterator[str]:
    """Rows as BigQuery has them, with 2.5 kB each. Most of their fields are not imported."""
    unused = {f"{part}_{n}": f"a value of {part} number {n}" for n in range(16) for part in ("privacy", "traffic")}
    for n in range(count):
        page = f"https://shop.example/page/{n % 500}?utm_source=news"
        given = {"page_location": page, "page_referrer": "https://www.google.com/", "page_title": f"Page {n % 500}"}
        given |= {"plan": "pro", "item": f"item {n % 1000}", "campaign": "autumn", "link_text": "to the shop"}
        params = [{"key": name, "value": {"string_value": value, "int_value": None}} for name, value in given.items()]
        at = START + timedelta(seconds=n)
        row = {
            "event_date": f"{at:%Y%m%d}",
            "event_timestamp": f"{at.timestamp() * 1e6:.0f}",
            "event_name": "page_view",
        }
        row |= {"event_params": params, "user_pseudo_id": f"{chance.randrange(count // 5)}.1", "stream_id": "77"}
        browser = {"browser": "Firefox", "browser_version": "140.0", "hostname": "shop.example"}
        row |= {"device": {"category": "desktop", "operating_system": "Linux", "language": "de", "web_info": browser}}
        row |= {"geo": {"country": "Germany", "region": "Berlin", "city": "Berlin"}, "traffic_source": unused}
        yield json.dumps(row) + "\n"


WRITERS: dict[str, Callable[[random.Random, int], Iterator[str]]] = {
    "log": log,
    "umami": umami,
    "footfall": footfall,
    "ga4": ga4,
}

if __name__ == "__main__":
    main() if len(sys.argv) == 1 else measure(sys.argv[1])
