"""`python -m bench.importing`: how many events per second an import reads, translates and sends, and its memory.

For each of FORMATS it writes a file of EVENTS (200,000) rows and imports it in a process of its own. The events go to a
Redis that syncs its file for each write. Instead of a worker, which stores them, this process deletes them, so the
number is that of the importer alone. `make bench` measures how many events a worker stores per second.
"""

import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

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
from tests.support.running_system import running

EVENTS = int(os.environ.get("EVENTS", "200000"))
FORMATS = os.environ.get("FORMATS", "log,umami,footfall,ga4")
START = datetime(2026, 10, 1, tzinfo=UTC)
UMAMI = "event_id,website_id,session_id,created_at,url_path,url_query,referrer_domain,event_type,hostname\n"


def main() -> None:
    print(f"# python -m bench.importing, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {machine()}, {EVENTS:,} events\n")
    print("| format | events/s | memory at most, MB |\n|---|---|---|", flush=True)
    for name in FORMATS.split(","):
        subprocess.run([sys.executable, "-m", "bench.importing", name], check=True)


def measure(name: str) -> None:
    with tempfile.TemporaryDirectory(prefix="footfall-bench-") as given:
        folder = Path(given)
        file = folder / name
        with file.open("w") as rows:
            rows.writelines(WRITERS[name](random.Random(1)))
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


def log(chance: random.Random) -> Iterator[str]:
    agents = user_agents(chance)
    for n, agent in enumerate(chance.choices(agents, weights(agents), k=EVENTS)):
        address = f"203.0.{chance.randrange(100)}.{chance.randrange(250)}"
        at = f"{START + timedelta(seconds=n):%d/%b/%Y:%H:%M:%S} +0000"
        path = f"/page/{chance.randrange(500)}?utm_source=news"
        yield f'{address} - - [{at}] "GET {path} HTTP/1.1" 200 5120 "https://www.google.com/" "{agent or "x"}"\n'


def umami(chance: random.Random) -> Iterator[str]:
    yield UMAMI
    for n in range(EVENTS):
        at, who = START + timedelta(seconds=n), UUID(int=chance.randrange(EVENTS // 5))
        yield f"{UUID(int=n)},w,{who},{at},/page/{n % 500},utm_source=news,www.google.com,1,shop.example\n"


def footfall(chance: random.Random) -> Iterator[str]:
    for n in range(EVENTS):
        at = (START + timedelta(seconds=n)).isoformat()
        event = {"id": UUID(int=n).hex, "site_id": "x", "event_type": "pageview", "timestamp": at, "received_at": at}
        event |= {
            "hostname": "shop.example",
            "path": f"/page/{n % 500}",
            "visitor_id": f"{chance.getrandbits(64):016x}",
        }
        event |= {"source": "Google", "channel": "Organic Search", "device": "Desktop", "browser": "Firefox"}
        yield json.dumps(event | {"os": "Linux", "country": "DE", "props": {"plan": "pro"}}) + "\n"


def ga4(chance: random.Random) -> Iterator[str]:
    """Rows as BigQuery has them, with 2.5 kB each. Most of their fields are not imported."""
    unused = {f"{part}_{n}": f"a value of {part} number {n}" for n in range(16) for part in ("privacy", "traffic")}
    for n in range(EVENTS):
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
        row |= {"event_params": params, "user_pseudo_id": f"{chance.randrange(EVENTS // 5)}.1", "stream_id": "77"}
        browser = {"browser": "Firefox", "browser_version": "140.0", "hostname": "shop.example"}
        row |= {"device": {"category": "desktop", "operating_system": "Linux", "language": "de", "web_info": browser}}
        row |= {"geo": {"country": "Germany", "region": "Berlin", "city": "Berlin"}, "traffic_source": unused}
        yield json.dumps(row) + "\n"


WRITERS: dict[str, Callable[[random.Random], Iterator[str]]] = {
    "log": log,
    "umami": umami,
    "footfall": footfall,
    "ga4": ga4,
}

if __name__ == "__main__":
    main() if len(sys.argv) == 1 else measure(sys.argv[1])
