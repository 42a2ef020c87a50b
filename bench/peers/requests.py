"""The loads of `make bench-peers`, as requests that are rendered before the run."""

import json
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bench.calibration import ENTRY
from bench.hits import BOTS, LANGUAGES, hit_body, user_agents, weights

SITE = "bench"
_DIFFERENT = 5_000  # requests of a load, which repeat
_NO_HEADERS: dict[str, str] = {}


@dataclass(frozen=True)
class Traffic:
    """`events`: in each request. `everywhere`: not only for Footfall."""

    name: str
    requests: list[bytes]
    connections: int = 64
    events: int = 1
    everywhere: bool = True


def _post(path: str, body: object, headers: Mapping[str, str] = _NO_HEADERS) -> bytes:
    content = json.dumps(body).encode()
    lines = {"Host": "bench", "Content-Type": "application/json", **headers, "Content-Length": str(len(content))}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"POST {path} HTTP/1.1\r\n{head}\r\n".encode() + content


def _event(number: int) -> dict[str, Any]:
    """A described event: a server has already named its visitor and its page."""
    return {
        "site_id": SITE, "event_type": "page_view", "path": f"/page/{number % 100}", "user_id": f"user-{number}",
        "timestamp": "2026-11-22T10:00:00Z",
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
    everywhere=False,
)
BATCHES = Traffic(
    "batches of 500, 16 connections",
    [_post("/events", [_event(500 * batch + number) for number in range(500)]) for batch in range(50)],
    connections=16,
    events=500,
    everywhere=False,
)
LOADS = (DESCRIBED, DISPATCHED, BATCHES, MANY, BROWSER)
XADD = b"*5\r\n$4\r\nXADD\r\n$5\r\nbench\r\n$1\r\n*\r\n$5\r\nevent\r\n$%d\r\n%b\r\n" % (len(ENTRY), ENTRY)
