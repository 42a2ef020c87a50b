"""The loads of `make bench-peers`, as requests that are rendered before the run."""

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.calibration import ENTRY
from bench.hits import BOTS, LANGUAGES, hit_body, user_agents, weights
from bench.peers.contenders import BULLMQ, FOOTFALL

SITE, READ_SITE = "bench", "read"
WAITING = 100_000  # events
_DIFFERENT = 5_000  # requests of a load, which repeat
_NO_HEADERS: dict[str, str] = {}


@dataclass(frozen=True)
class Traffic:
    """`events`: in each request. `count`: of requests, instead of those of some seconds. `only`: the names of the
    contenders that get it, if not all do.
    """

    name: str
    requests: list[bytes]
    connections: int = 64
    events: int = 1
    count: int | None = None
    only: Sequence[str] | None = None


def _post(path: str, body: object, headers: Mapping[str, str] = _NO_HEADERS) -> bytes:
    content = json.dumps(body).encode()
    lines = {"Host": "bench", "Content-Type": "application/json", **headers, "Content-Length": str(len(content))}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"POST {path} HTTP/1.1\r\n{head}\r\n".encode() + content


def _event(number: int, site: str = SITE) -> dict[str, Any]:
    """A described event: a server has already named its visitor and its page. It has no time, so it happens now. If all
    events had one time, Footfall would read all of them again for each segment.
    """
    return {
        "site_id": site, "event_type": "page_view", "path": f"/page/{number % 100}", "user_id": f"user-{number}",
    }  # fmt: skip


def _hits() -> list[bytes]:
    chance = random.Random(1)
    agents = [agent for agent in user_agents(chance) if agent not in BOTS]
    return [
        _post(
            "/event",
            hit_body(chance, SITE),
            {
                "User-Agent": agent,
                "Accept": "*/*",
                "Accept-Language": chance.choice(LANGUAGES),
                "Origin": "https://www.shop.example",
                "Referer": "https://www.shop.example/",
            },
        )
        for agent in chance.choices(agents, weights(agents), k=_DIFFERENT)
    ]


_SINGLE = [_post("/event", _event(number)) for number in range(_DIFFERENT)]
DESCRIBED = Traffic("described events", _SINGLE)
MANY = Traffic("described events, 512 connections", _SINGLE, connections=512)
BROWSER = Traffic("browser hits", _hits())
# A request with a query is not answered before Flask's dispatch (ingest_app/hot_routes.py).
DISPATCHED = Traffic(
    "described events through Flask's dispatch",
    [_post("/event?through=flask", _event(number)) for number in range(_DIFFERENT)],
    only=[FOOTFALL],
)
BATCHES = Traffic(
    "batches of 500, 16 connections",
    [_post("/events", [_event(500 * batch + number) for number in range(500)]) for batch in range(50)],
    connections=16,
    events=500,
    only=[FOOTFALL],
)
LOADS = (DESCRIBED, DISPATCHED, BATCHES, MANY, BROWSER)

# The workers of the other stacks would take minutes.
READ = [_post("/event", _event(number, READ_SITE)) for number in range(_DIFFERENT)]
WAITING_DESCRIBED, WAITING_HITS = (
    Traffic(f"{WAITING:,} waiting {kind}", requests, count=WAITING, only=[FOOTFALL, BULLMQ])
    for kind, requests in ((DESCRIBED.name, READ), (BROWSER.name, BROWSER.requests))
)
XADD = b"*5\r\n$4\r\nXADD\r\n$5\r\nbench\r\n$1\r\n*\r\n$5\r\nevent\r\n$%d\r\n%b\r\n" % (len(ENTRY), ENTRY)
