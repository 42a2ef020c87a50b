"""50,000 malformed bodies at the collector: each is answered, none with a 5xx, and no process dies.

The bodies are seeded: SEED changes them, COUNT changes their number. A body that failed is printed, and should become a
test of its own.
"""

import gzip
import json
import os
import random
import socket
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import brotli
import pytest
import zstandard
from flask import Flask
from redis import Redis

from analytics.journal.journal import Journal
from config.settings import Settings
from footfall.embedded_servers import pick_port
from ingest_app import create_app
from tests.support.running_system import running_alone, wait_for
from tests.support.services import WakeUps, make_services
from tests.system.test_deployment import PROCFILE
from tests.web.test_slow_clients import is_up

SEED = int(os.environ.get("SEED", "1"))
COUNT = int(os.environ.get("COUNT", "45000"))
OVER_SOCKETS = 5000

OURS = ("/event", "/events", "/events", "/events")
THEIRS = ("/api/event", "/api/send", "/api/batch", "/v1/batch", "/v1/track", "/v1/page", "/beacon/v1/batch")
TYPES = ("application/json", "text/plain", "application/x-ndjson", "application/x-ndjson", "",
         "application/x-www-form-urlencoded", "\u00ff/\u00fe", "application/json; charset=utf-16",
         "multipart/form-data; boundary=x")  # fmt: skip
PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": lambda body: gzip.compress(body, 1),
    "deflate": lambda body: zlib.compress(body, 1),
    "br": lambda body: bytes(brotli.compress(body, quality=1)),
    "zstd": lambda body: zstandard.compress(body, 1),
}
EVENT = {
    "site_id": "shop", "event_type": "pageview", "url": "https://shop.example/a?utm_source=x#y", "path": "/pricing",
    "hostname": "shop.example", "referrer": "https://news.example/", "user_id": "ann",
    "timestamp": "2026-11-22T10:00:00Z", "event_id": "7", "interactive": False,
    "props": {"plan": "pro", "n": 1, "f": 1.5, "b": True, "z": None},
    "revenue": {"amount": "9.99", "currency": "EUR"}, "engagement_time": 1000, "scroll_depth": 50, "country": "DE",
    "region": "DE-BE", "language": "de-DE", "ip": "203.0.113.7", "user_agent": "Firefox",
}  # fmt: skip
PLAUSIBLE = {
    "n": "pageview", "u": "https://shop.example/a", "d": "shop.example", "r": "https://news.example/", "i": False,
    "p": '{"plan": "pro"}', "$": {"amount": 9.99, "currency": "EUR"}, "h": 1, "v": 36, "e": 1000, "sd": 50,
    "name": "Signup", "url": "https://shop.example/b", "domain": "shop.example,blog.example", "props": {"a": 1},
}  # fmt: skip
UMAMI = {
    "type": "event",
    "payload": {
        "website": "8d0d5e3c-6a3d-4b3e-9d1b-0a3f5f1a0001", "hostname": "shop.example", "language": "de-DE",
        "url": "/a?b=c", "referrer": "", "screen": "1920x1080", "title": "A", "name": "signup",
        "data": {"plan": {"name": "pro"}}, "id": "ann", "ip": "203.0.113.7", "userAgent": "Firefox",
        "timestamp": 1795341600,
    },
}  # fmt: skip
SEGMENT = {
    "type": "track", "event": "Signup", "messageId": "m-1", "userId": None, "anonymousId": "anonymous",
    "writeKey": "shop",
    "properties": {"plan": "pro", "url": "https://shop.example/a", "revenue": 9.99, "deep": {"a": [1]}}, "traits": {},
    "context": {"ip": "203.0.113.7", "userAgent": "Firefox", "page": {"url": "https://shop.example/a"},
                "locale": "de-DE", "campaign": {"source": "x"},
                "screen": {"width": 1, "height": 2}, "library": {"name": "x"}},
    "timestamp": "2026-11-22T10:00:00Z", "originalTimestamp": "2026-11-22T10:00:00Z", "sentAt": "2026-11-22T10:00:01Z",
}  # fmt: skip
BASES = (EVENT, EVENT, EVENT, PLAUSIBLE, UMAMI, SEGMENT)
ODD: list[Any] = [
    None, True, False, 0, -1, 2**63, -(2**63) - 1, 10**400, 1e308, float("nan"), float("inf"), -0.0, "", " ", "\0",
    "x" * 5000, "\ud800", "\udfff\ud800", "\U0001f600", "\u202e", "ä" * 300, [], {}, [[]], [None] * 50,
    {"": ""}, {"\0": 1},
    {"a": {"b": {"c": []}}}, {"amount": "1e999999", "currency": "EUR"}, {"amount": float("nan"), "currency": "USD"},
    {"amount": 10**5000 % 10**300, "currency": "USD"}, {str(n): n for n in range(40)}, {"k" * 400: "v" * 3000},
    "9999-12-31T23:59:59.999999Z", "0001-01-01T00:00:00+23:59", "1970-01-01T00:00:00-23:59", "2026-11-22T24:00:00Z",
    "2026-02-30", "now", "-1", "٣", "1e5", "::1", "::ffff:1.2.3.4", "1.2.3.4:80", "fe80::1%eth0", "999.1.1.1",
    "http://[", "//", "https://shop.example:99999999/", "javascript:1", "data:,x", "https://\ud800/", "https://xn--a/",
    "DE-", "EU-XXXX",
]  # fmt: skip
STRANGE = ("", "\0", "client", "id", "received_at", "__proto__", "$where", "a.b", "batch", "events")
TOKENS = [b"{", b"}", b"[", b"]", b",", b":", b'"', b"\\", b"\\u", b"\\ud800", b"\n", b"\r\n", b"\0", b"\xff", b"\xc3",
          b"\xef\xbb\xbf", b"NaN", b"Infinity", b"-", b"1e999", b"9" * 400,
          b"null", b"tru", b"//", b"\x1f\x8b", b"(\xb5/\xfd"]  # fmt: skip


def bodies(dice: random.Random) -> Iterator[bytes]:
    """Endless bodies. Each starts as a valid body and is changed: as a value, as text, or as bytes."""
    while True:
        base = dice.choice(BASES)
        events = [spoiled(dice, base) for _ in range(dice.choice((1, 1, 2, 3)))]
        body = dice.choice(SHAPES)(dice, events)
        for _ in range(dice.choice((0, 0, 1, 1, 2, 5))):
            body = dice.choice(SPOILERS)(dice, body)
        yield body


def spoiled(dice: random.Random, base: dict[str, Any]) -> Any:
    event = dict(base)
    for _ in range(dice.choice((0, 1, 1, 2, 5))):
        name = dice.choice(list(base) or [""])
        match dice.randrange(5):
            case 0:
                event.pop(name, None)
            case 1:
                event[dice.choice(STRANGE)] = dice.choice(ODD)
            case 2:
                event["props"] = {str(dice.choice(ODD))[:400]: dice.choice(ODD) for _ in range(dice.randrange(4))}
            case 3 if isinstance(base.get(name), dict):
                event[name] = spoiled(dice, base[name])
            case _:
                event[name] = dice.choice(ODD)
    return dice.choice(ODD) if dice.random() < 0.05 else event


def text(value: Any) -> bytes:
    return json.dumps(value).encode()


def as_one(dice: random.Random, events: list[Any]) -> bytes:
    return text(events[0])


def as_list(dice: random.Random, events: list[Any]) -> bytes:
    return text(events)


def as_object(dice: random.Random, events: list[Any]) -> bytes:
    body: dict[str, Any] = {"events": events, "sent_at": dice.choice(("2026-11-22T12:00:00Z", *ODD))}
    body |= {"batch": events, "sentAt": dice.choice(("2026-11-22T12:00:00Z", *ODD))} if dice.random() < 0.5 else {}
    body |= {dice.choice(("batch", "events", "site_id", "writeKey")): dice.choice(ODD)} if dice.random() < 0.2 else {}
    return text(body)


def as_lines(dice: random.Random, events: list[Any]) -> bytes:
    return dice.choice((b"\n", b"\r\n", b"\n\n", b"\r", b"\0")).join(map(text, events))


def in_other_encoding(dice: random.Random, events: list[Any]) -> bytes:
    name = dice.choice(("utf-16", "utf-32", "latin-1", "utf-7", "utf-8-sig", "cp037"))
    return json.dumps(events, ensure_ascii=False).encode(name, errors="replace")


def nested(dice: random.Random, events: list[Any]) -> bytes:
    deep = dice.choice((10, 500, 990, 1010, 20_000))
    opening, closing = dice.choice(((b"[", b"]"), (b'{"a":', b"}"), (b'{"props":', b"}"), (b'{"events":[', b"]}")))
    return opening * deep + b"1" + (closing * deep if dice.random() < 0.7 else b"")


def twice(dice: random.Random, events: list[Any]) -> bytes:
    """Objects with a repeated key."""
    body = text(events[0])
    return body[:-1] + b"," + text({dice.choice(list(EVENT)): dice.choice(ODD)})[1:] if body.endswith(b"}") else body


def cut(dice: random.Random, body: bytes) -> bytes:
    return body[: dice.randrange(len(body) + 1)]


def flip(dice: random.Random, body: bytes) -> bytes:
    found = bytearray(body)
    for _ in range(min(dice.choice((1, 3, 20)), len(found))):
        found[dice.randrange(len(found))] = dice.randrange(256)
    return bytes(found)


def put(dice: random.Random, body: bytes) -> bytes:
    at = dice.randrange(len(body) + 1)
    return body[:at] + dice.choice(TOKENS) * dice.choice((1, 1, 2, 30)) + body[at:]


def take(dice: random.Random, body: bytes) -> bytes:
    at = dice.randrange(len(body) + 1)
    return body[:at] + body[at + dice.randrange(1, 20) :]


def noise(dice: random.Random, body: bytes) -> bytes:
    return dice.randbytes(dice.choice((0, 1, 10, 300)))


SHAPES = (as_one, as_one, as_list, as_list, as_object, as_lines, as_lines, in_other_encoding, nested, twice)
SPOILERS = (cut, flip, put, put, take, noise)


def requests(dice: random.Random) -> Iterator[tuple[str, dict[str, str], bytes]]:
    """Route, headers and body.

    Some bodies are compressed, some of those damaged, and some are only declared as compressed.
    """
    for body in bodies(dice):
        headers = {"Content-Type": dice.choice(TYPES)}
        sent = body
        if dice.random() < 0.3:
            name = dice.choice(list(PACKERS))
            headers["Content-Encoding"] = (
                name if dice.random() < 0.95 else dice.choice(("zstd", "br", "lzma", "gzip, br"))
            )
            sent = PACKERS[name](body) if dice.random() < 0.9 else body
            if dice.random() < 0.4:
                sent = dice.choice((cut, flip, put, take))(dice, sent)
        yield dice.choice(OURS if dice.random() < 0.6 else THEIRS), headers, sent


class NoJournal(Journal):
    """Writes nothing: writing is not tested here, and would take most of the time."""

    def append(self, lines: Any) -> int:
        assert all(isinstance(line.event, bytes) for line in lines)
        return 0


def is_fine(route: str, status: int, data: bytes) -> bool:
    """Whether the answer is a success, or an error with a message in Footfall's shape."""
    if route in THEIRS:
        return status in (200, 202) or (status in (400, 401, 413, 415) and bool(json.loads(data)["message"]))
    body = json.loads(data)
    if status == 200:
        return body["success"] is True
    return status in (400, 403, 413, 415) and body["success"] is False and bool(body["error"]["message"])


@pytest.mark.timeout(300)
def test_malformed_bodies_are_each_answered(settings: Settings, redis: Redis, wake_ups: WakeUps):
    ours = replace(settings, log_level="ERROR")
    journal = NoJournal(redis, queue="events", batch=1000, claim_idle=1)
    app = create_app(ours, make_services(ours, journal=journal), wake_ups)
    statuses: Counter[int] = Counter()
    for number, (route, headers, body) in enumerate(requests(random.Random(SEED))):
        if number == COUNT:
            break
        status, data = call(app, route, headers, body)
        statuses[status] += 1
        assert is_fine(route, status, data), (SEED, number, route, headers, body, status, data)
    print(statuses)
    assert min(statuses[200], statuses[400]) > COUNT // 20, "good and bad ones"
    assert {200, 400, 415} <= set(statuses)


def call(app: Flask, route: str, headers: dict[str, str], body: bytes) -> tuple[int, bytes]:
    """The same as Flask's test client, in a third of the time."""
    found: list[str] = []
    environ = {
        "REQUEST_METHOD": "POST", "PATH_INFO": route, "SCRIPT_NAME": "", "QUERY_STRING": "", "SERVER_NAME": "localhost",
        "SERVER_PORT": "80", "SERVER_PROTOCOL": "HTTP/1.1", "wsgi.url_scheme": "http", "wsgi.input": BytesIO(body),
        "wsgi.errors": None, "wsgi.input_terminated": True, "REMOTE_ADDR": "203.0.113.7",
        "CONTENT_LENGTH": str(len(body)),
        "CONTENT_TYPE": headers["Content-Type"], "HTTP_CONTENT_ENCODING": headers.get("Content-Encoding", ""),
    }  # fmt: skip
    answer = b"".join(app(environ, lambda status, *_: found.append(status) or (lambda _: None)))
    return int(found[0][:3]), answer


def test_no_bytes_from_a_socket_kill_a_process(settings: Settings, redis: Redis, tmp_path: Path):
    """Some thousands through gunicorn, with changed heads too. Connections stay open as long as gunicorn allows."""
    port = pick_port(0)
    environment = {"REDIS_URL": settings.redis_url, "INGESTION_PORT": str(port), "LOG_LEVEL": "ERROR"}
    with running_alone(PROCFILE["ingest"], tmp_path / "log", **environment) as gunicorn:
        wait_for(lambda: is_up(port) and len(gunicorn.children()) == Settings().web_concurrency, "gunicorn")
        before = {child.pid for child in gunicorn.children()}
        dice = random.Random(SEED)
        statuses: Counter[bytes] = Counter()
        for number, (route, headers, body) in enumerate(requests(dice)):
            if number == OVER_SOCKETS:
                break
            raw = raw_request(dice, route, headers, body)
            statuses.update(answers(port, raw))
        assert {child.pid for child in gunicorn.children()} == before
        wait_for(lambda: list(answers(port, GOOD)) == [b"200"], "a good one's answer", 15)
    print(statuses)
    assert statuses[b"200"] > 100
    assert not {status for status in statuses if status.startswith(b"5")} - {b"501"}, statuses
    assert "Traceback" not in (tmp_path / "log").read_text()


BODY = json.dumps({"site_id": "shop", "event_type": "pageview"}).encode()
GOOD = b"POST /event HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s" % (len(BODY), BODY)


def raw_request(dice: random.Random, route: str, headers: dict[str, str], body: bytes) -> bytes:
    lines = [f"POST {route} HTTP/1.1", "Host: footfall", "Connection: close"]
    lines += [f"{name}: {value}" for name, value in headers.items() if value]
    if dice.random() < 0.3:
        chunks = [body[at : at + 100] for at in range(0, len(body), 100)]
        body = b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"
        lines.append("Transfer-Encoding: chunked")
    else:
        lines.append(f"Content-Length: {len(body)}")
    raw = "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"
    if dice.random() < 0.2:
        raw = dice.choice((flip, put, take))(dice, raw)
    return raw + body


def answers(port: int, raw: bytes) -> Iterator[bytes]:
    """The statuses of the answers.

    The client shuts down its side of the connection, so the server does not wait for more.
    """
    with socket.create_connection(("127.0.0.1", port), timeout=15) as sock, suppress(OSError):
        sock.sendall(raw)
        sock.shutdown(socket.SHUT_WR)
        found = b""
        while piece := sock.recv(65536):
            found += piece
        if found:
            yield found.split(b" ", 2)[1]
