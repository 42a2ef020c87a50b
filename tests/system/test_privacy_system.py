"""The promises of privacy, through the whole running system.

An address and a user agent are stored nowhere, whichever route they used, and an erased visitor is nowhere any more.
The tests search all stored data for the exact bytes.
"""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from bson.raw_bson import RawBSONDocument
from pymongo import MongoClient

from analytics.events.columns import visitor_of
from analytics.journal.journal import JOURNAL_KEY
from tests.support.running_system import System, wait_for
from tests.support.services import ADMIN_KEY

ADDRESS = "203.0.113.77"
AGENT = (
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 Safari/537.36 Grepped/7"
)
SECRETS = (ADDRESS, AGENT, "Grep/77")
USER = "grep-for-this-visitor"
SITE = "shop.example"
SENDER = {"X-Forwarded-For": ADDRESS, "User-Agent": AGENT}
KEY = {"Authorization": f"Bearer {ADMIN_KEY}"}


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """A system behind a trusted proxy, with a short time limit of queries, so that old files are removed soon."""
    folder = tmp_path_factory.mktemp("system")
    system = System(folder, TRUSTED_PROXIES="1", ADMIN_KEY=ADMIN_KEY, STATS_TIME_LIMIT="1", CLAIM_IDLE="5")
    try:
        yield system.start()
    finally:
        system.kill()


def ways_in(moment: datetime) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Method, path, and arguments of httpx, for every format that the collector takes.

    The address and the user agent are in every field that a format has for them.
    """
    when = moment.isoformat()
    event = {"site_id": SITE, "event_type": "pageview", "url": f"https://{SITE}/a", "timestamp": when}
    theirs = {"ip": ADDRESS, "user_agent": AGENT}
    yield "POST", "/event", {"json": event}
    yield "POST", "/event", {"json": event | theirs}
    yield "POST", "/events", {"json": [event, event | theirs, event | theirs | {"timestamp": "never"}]}
    lines = "\n".join(json.dumps(event | theirs) for _ in range(2))
    yield "POST", "/events", {"content": lines, "headers": {"Content-Type": "application/x-ndjson"}}
    yield "GET", "/pixel.gif", {"params": {"site_id": SITE, "url": f"https://{SITE}/pixel"}}
    yield "POST", "/api/event", {"json": {"name": "pageview", "url": f"https://{SITE}/p", "domain": SITE}}
    payload = {"website": str(uuid4()), "hostname": SITE, "url": "/u", "ip": ADDRESS, "userAgent": AGENT}
    yield "POST", "/api/send", {"json": {"type": "event", "payload": payload}}
    yield "POST", "/api/batch", {"json": [{"type": "event", "payload": payload}]}
    context = {"ip": ADDRESS, "userAgent": AGENT, "page": {"url": f"https://{SITE}/s"}}
    track = {"event": "bought", "anonymousId": "a1", "context": context, "timestamp": when}
    yield "POST", "/v1/track", {"json": track, "auth": (SITE, "")}
    yield "POST", "/v1/batch", {"json": {"batch": [track | {"type": "track"}]}, "auth": (SITE, "")}
    hers = event | theirs | {"user_id": USER}
    yield "POST", "/events", {"json": [hers, hers | {"props": {"name": USER}}, hers | {"timestamp": "never"}]}
    yield "POST", "/v1/track", {"json": track | {"userId": USER}, "auth": (SITE, "")}


def send_all(system: System, moment: datetime) -> int:
    """Sends all hits. Returns the least number of accepted events."""
    with httpx.Client(base_url=system.ingest, headers=SENDER) as client:
        for method, path, how in ways_in(moment):
            answer = client.request(method, path, **how)
            assert answer.is_success, (path, answer.text)
    return 14


def places(system: System, *, deleted: bool) -> Iterator[tuple[str, bytes]]:
    """Everything that is stored: a name and bytes each. `deleted`: also the oplog, which has deleted data."""
    redis = system.redis()
    kinds: dict[bytes, Any] = {
        b"string": redis.get,
        b"hash": redis.hgetall,
        b"stream": redis.xrange,
        b"set": redis.smembers,
        b"list": lambda key: redis.lrange(key, 0, -1),
        b"zset": lambda key: redis.zrange(key, 0, -1),
    }
    for key in redis.scan_iter(count=1000):
        kind: Any = redis.type(key)
        if kind in kinds:
            yield f"redis {key!r}", key + repr(kinds[kind](key)).encode()
    var = Path(system.environment["DATA_DIR"])
    for file in (var / "redis").rglob("*"):
        if file.is_file():
            yield f"file {file.name}", file.read_bytes()
    with MongoClient(system.mongodb_uri, document_class=RawBSONDocument) as client:
        for database in client.list_database_names():
            for name in client[database].list_collection_names():
                if deleted or name != "oplog.rs":
                    for document in client[database][name].find():
                        yield f"mongodb {database}.{name}", document.raw
        bucket = client.get_default_database()["segments.chunks"]
        for chunk in bucket.find():
            yield "segment", shown_segment(bytes(chunk["data"]))
    for file in (var / "segments").glob("*.parquet"):
        yield "copy of a segment", shown_segment(file.read_bytes())
    yield "log", system.output().encode()
    for base in (system.ingest, system.report, f"http://127.0.0.1:{system.ports['WORKER_METRICS_PORT']}"):
        yield f"{base}/metrics", httpx.get(f"{base}/metrics", headers=KEY).content


def shown_segment(file: bytes) -> bytes:
    """The decompressed content of a segment."""
    return repr(pq.read_table(pa.BufferReader(file)).to_pylist()).encode()


def found(system: System, *texts: str, deleted: bool = False) -> set[str]:
    return {name for name, data in places(system, deleted=deleted) for text in texts if text.encode() in data}


@pytest.mark.timeout(240)
def test_no_store_holds_an_address_a_user_agent_or_an_erased_visitor(system: System):
    moment = datetime.now(UTC) - timedelta(hours=3)
    least = send_all(system, moment)
    system.redis().xadd(JOURNAL_KEY, {"event": json.dumps({"site_id": SITE, "user_id": USER})})
    with system.database() as database:
        wait_for(lambda: database["events"].count_documents({}) >= least, "the events")
        wait_for(lambda: database["dead_letters"].count_documents({}) == 1, "the dead letter")
        wait_for(lambda: database["segments.files"].count_documents({}) > 0, "a segment", 60)
        wait_for(lambda: system.redis().xlen(JOURNAL_KEY) == 0, "an empty journal")
        assert database["events"].count_documents({"browser": "Chrome"}) > 0, "what they tell is kept"
        assert database["events"].count_documents({"visitor_id": {"$type": "string"}}) > 0
    assert found(system, *SECRETS, deleted=True) == set()

    hash_of_her = str(visitor_of(USER))
    before = found(system, USER, hash_of_her)
    assert {"mongodb footfall.events", "mongodb footfall.dead_letters", "segment", "file appendonly.aof"} <= before
    assert "log" not in before
    whose = ("--site", SITE, "--user", USER)
    assert system.run_footfall("visitors", "search", *whose).returncode == 1
    ran = system.run_footfall("visitors", "erase", *whose, "--yes", "--wait", "55")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert found(system, USER, hash_of_her) == set()
    assert system.run_footfall("visitors", "search", *whose).returncode == 0
    audited = system.run_footfall("audit")
    assert audited.returncode == 0, audited.stdout
    with system.database() as database:
        assert database["events"].count_documents({}) >= least - 3, "nobody else's"


@pytest.mark.timeout(120)
def test_a_worker_finishes_an_erasure_that_was_requested_over_http(system: System):
    whose = {"site_id": SITE, "user_id": "by-http"}
    event = whose | {"event_type": "pageview", "timestamp": (datetime.now(UTC) - timedelta(hours=5)).isoformat()}
    httpx.post(f"{system.ingest}/event", json=event, headers=SENDER).raise_for_status()

    def search() -> dict[str, Any]:
        answer = httpx.post(f"{system.report}/admin/visitors/search", json=whose, headers=KEY, timeout=20)
        return dict(answer.raise_for_status().json())

    wait_for(lambda: search()["segments"] == 1, "the event in a segment", 60)
    answer = httpx.post(f"{system.report}/admin/visitors/erase", json=whose, headers=KEY, timeout=20)
    assert answer.json()["erased"] == {"events": 1, "dead_letters": 0, "waiting": 0}
    wait_for(lambda: not search()["found"], "nothing", 60)
    with system.database() as database:
        wait_for(lambda: database["erasures"].count_documents({"is_done": False}) == 0, "the end of it", 30)
    assert found(system, "by-http") == set()
