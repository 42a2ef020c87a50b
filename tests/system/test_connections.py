"""Every process has one Redis client and one MongoDB client. docs/operating.md states the numbers."""

from collections import Counter
from datetime import UTC, datetime, timedelta

import httpx
import psutil

from tests.support.running_system import System, wait_for

MONITORS = 2  # connections with which a MongoDB client watches a server


def addresses(process: psutil.Process) -> set[str]:
    """The local ends of a process's connections."""
    return {f"{x.laddr.ip}:{x.laddr.port}" for x in process.net_connections("tcp") if x.raddr}


def by_process(system: System, peers: dict[str, str]) -> dict[str, list[int]]:
    """For each name, the numbers of connections of the processes that have any.

    `peers`: the name of each connection by its address.
    """
    found = []
    for process in system.process.children(recursive=True):
        if names := Counter(peers[address] for address in addresses(process) & set(peers)):
            found += list(names.items())
    return {name: sorted(count for each, count in found if each == name) for name in set(peers.values())}


def redis_clients(system: System) -> dict[str, list[int]]:
    return by_process(system, {each["addr"]: each["name"] for each in system.redis().client_list()})


def mongodb_clients(system: System) -> dict[str, list[int]]:
    with system.database() as database:
        asked = [{"$currentOp": {"allUsers": True, "idleConnections": True}}, {"$match": {"client": {"$exists": True}}}]
        rows = list(database.client.admin.aggregate(asked))
    return by_process(system, {row["client"]: row.get("appName", "") for row in rows})


def use(system: System) -> None:
    """Makes every process do its work once: hits, a batch, a segment and queries."""
    moment = datetime.now(UTC) - timedelta(hours=3)
    event = {"site_id": "shop", "event_type": "page_view", "user_id": "ann", "timestamp": moment.isoformat()}
    for _ in range(20):
        assert httpx.post(f"{system.ingest}/event", json=event).status_code == 200

    def views() -> int:
        return httpx.get(f"{system.report}/stats", params={"site_id": "shop"}).json()["total_views"]

    wait_for(lambda: [views() for _ in range(20)] == [20] * 20, "the events in the reports")
    with system.database() as database:
        wait_for(database["segment_manifests"].find_one, "a segment", 60)


def test_a_process_has_one_client_of_each_store(system: System):
    use(system)
    redis, mongodb = redis_clients(system), mongodb_clients(system)
    print(redis, mongodb)
    assert len(redis["footfall-ingest"]) == 2, "one client for each gunicorn process"
    assert max(redis["footfall-ingest"]) <= 2, "a request, and the wake-ups"
    assert set(mongodb) >= {"footfall-report", "footfall-worker", "footfall-beat"}
    assert "footfall-ingest" not in mongodb
    for name in ("footfall-report", "footfall-worker", "footfall-beat"):
        assert max(redis.get(name, [0])) <= 1
        assert max(mongodb[name]) <= MONITORS + 1


def test_gunicorn_builds_the_apps_before_the_fork_and_opens_no_connection(system: System):
    for app in ("ingest_app", "report_app"):
        master, *processes = system.part(app)
        assert processes
        assert not addresses(master)
