"""A hot route and Flask's dispatch answer the same request with the same bytes, and do the same."""

import io
import json
import re
import socket
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from flask import Flask
from redis import Redis

from analytics.events.event import new_id
from analytics.events.schema import load_journal_event
from analytics.journal.journal import JOURNAL_KEY, Journal
from analytics.visitors.client import Client
from config.settings import Settings
from footfall.embedded_servers import pick_port
from ingest_app import create_app, umami
from tests.support.running_system import running_alone, wait_for
from tests.support.services import NOW, WakeUps, make_services
from tests.system.test_deployment import PROCFILE
from tests.system.test_deploys import answers
from web.app import STRICT_TRANSPORT

EVENT = {"site_id": "shop", "event_type": "pageview", "event_id": "1", "url": "https://a.example/x?y=1"}
PLAUSIBLE = {"n": "pageview", "u": "https://shop/x", "d": "shop"}
UMAMI = {"type": "event", "payload": {"website": "shop", "url": "/x", "hostname": "shop"}}
SEGMENT = {"writeKey": "shop", "event": "Sign-up", "anonymousId": "ann", "messageId": "1"}
BROKEN: list[Any] = [{}, [], "text", 1, None, {"site_id": 5}, {"payload": {}}]
BODIES = {
    "/event": [EVENT, EVENT | {"more": 1}, EVENT | {"timestamp": "never"}, EVENT | {"user_agent": "Googlebot"}],
    "/api/event": [PLAUSIBLE, PLAUSIBLE | {"d": "shop,other"}, PLAUSIBLE | {"p": "nonsense"}],
    "/api/send": [UMAMI, UMAMI | {"type": "identify"}, UMAMI | {"payload": {"website": "shop", "name": "x" * 51}}],
    "/v1/track": [SEGMENT, SEGMENT | {"timestamp": "never"}],
    "/v1/t": [SEGMENT],
    "/v1/page": [SEGMENT | {"name": "Home"}],
}
# What our tracker sends to the routes of other systems. The number of events that it has for existing sites is 2.
OWN_BATCH = {
    "events": [EVENT, EVENT | {"site_id": "a, b"}, EVENT | {"site_id": 5}, 7],
    "sent_at": "2026-11-28T10:00:00Z",
}
OWN_BATCHES: list[Any] = [OWN_BATCH, OWN_BATCH | {"sent_at": "never"}, {"events": {}}, {"events": [EVENT] * 1001}]
for path in ("/api/event", "/api/send"):
    BODIES[path] += OWN_BATCHES
RAW = [b"", b"{", b"\xff\xfe", b'"\\ud800"', b"{} {}", b"[" * 5000]
CASES = [
    *[(path, json.dumps(body).encode()) for path, bodies in BODIES.items() for body in [*bodies, *BROKEN]],
    *[(path, raw) for path in BODIES for raw in RAW],
]
HEADERS = [
    {},
    {"HTTP_ORIGIN": "https://a.example", "HTTP_X_UMAMI_CACHE": "0" * 32, "HTTP_DNT": "1"},
    {"HTTP_AUTHORIZATION": "Bearer footfall_" + "x" * 32, "HTTP_X_FORWARDED_PROTO": "https"},
]


@pytest.fixture
def app(settings: Settings, journal: Journal, wake_ups: WakeUps, monkeypatch: pytest.MonkeyPatch) -> Flask:
    monkeypatch.setattr(umami, "uuid4", lambda: UUID(int=1))
    return create_app(settings, make_services(settings, journal=journal), wake_ups)


def ask(app: Flask, path: str, body: bytes, headers: dict[str, str], redis: Redis, **more: str) -> tuple[Any, ...]:
    """Status, headers and body of the answer, and the numbers of events that were written. As web/gunicorn_worker.py
    asks.
    """
    environ: dict[str, Any] = {
        "REQUEST_METHOD": "POST", "PATH_INFO": path, "SCRIPT_NAME": "", "QUERY_STRING": "", "REMOTE_ADDR": "192.0.2.1",
        "SERVER_NAME": "footfall", "SERVER_PORT": "80", "SERVER_PROTOCOL": "HTTP/1.1", "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(body), "CONTENT_LENGTH": str(len(body)), **headers, **more,
    }  # fmt: skip
    redis.delete(JOURNAL_KEY)
    if found := app.config["IN_FRONT"](environ, body):
        status, *lines = found[0].decode().splitlines()
        answer = [status.removeprefix("HTTP/1.1 "), sorted(tuple(line.split(": ", 1)) for line in lines), found[1]]
    else:
        answer = []
        pieces = app(environ, lambda status, said, _=None: answer.extend([status, sorted(said)]))
        answer.append(b"".join(pieces))
    return *answer, redis.xlen(JOURNAL_KEY)


@pytest.mark.parametrize(("path", "body"), CASES, ids=lambda value: str(value)[:60])
def test_a_hot_route_answers_as_flask_does(app: Flask, redis: Redis, path: str, body: bytes):
    for headers in HEADERS:
        hot = ask(app, path, body, headers, redis)
        # a query sends it to Flask, and no route reads this one
        assert hot == ask(app, path, body, headers, redis, QUERY_STRING="by=flask"), headers


def send(port: int, path: str, body: bytes) -> bytes:
    """The whole response, without its date and without random ids."""
    head = f"POST {path} HTTP/1.1\r\nHost: footfall\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", port), timeout=20) as sock:
        sock.sendall(head.encode() + body)
        found = b"".join(iter(lambda: sock.recv(65536), b""))
    return re.sub(rb"Date: [^\r]+|[0-9a-f]{32}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", b"", found)


def test_over_a_connection_both_send_the_same_bytes(settings: Settings, tmp_path: Path):
    port = pick_port(0)
    environment = {"REDIS_URL": settings.redis_url, "INGESTION_PORT": str(port), "WEB_CONCURRENCY": "1"}
    with running_alone(PROCFILE["ingest"], tmp_path / "log", **environment):
        wait_for(lambda: answers(port), "gunicorn")
        for path, body in CASES:
            hot = send(port, path, body)
            assert re.match(rb"HTTP/1\.1 [24]\d\d ", hot)
            assert hot == send(port, f"{path}?by=flask", body), (path, body[:60])


def test_both_refuse_a_body_above_the_limit_of_an_event(
    settings: Settings, journal: Journal, wake_ups: WakeUps, redis: Redis
):
    services = make_services(settings, journal=journal)
    app = create_app(replace(settings, max_body_bytes=1000), services, wake_ups)
    for size, status in ((500, "200 OK"), (1500, "413 REQUEST ENTITY TOO LARGE")):
        body = json.dumps(EVENT | {"props": {"long": "x" * size}}).encode()
        for query in ("", "by=flask"):
            assert ask(app, "/event", body, {}, redis, QUERY_STRING=query)[0] == status


def test_both_believe_trusted_proxies_and_their_places(
    settings: Settings, journal: Journal, wake_ups: WakeUps, redis: Redis
):
    ours = replace(settings, trusted_proxies=1, place_headers="cloudflare")
    services = make_services(ours, journal=journal)
    app = create_app(ours, services, wake_ups)
    headers = {"HTTP_X_FORWARDED_FOR": "203.0.113.7", "HTTP_X_FORWARDED_PROTO": "https", "HTTP_CF_IPCOUNTRY": "DE"}
    answers, clients = [], []
    for query in ("", "by=flask"):
        answers.append(ask(app, "/event", json.dumps(EVENT).encode(), headers, redis, QUERY_STRING=query))
        ((_, fields),) = redis.xrange(JOURNAL_KEY)
        event = load_journal_event(fields[b"event"], new_id, lambda: NOW)
        clients.append(services.salts.unseal(event.client or ""))
    assert clients == [Client("203.0.113.7", place=(("country", "DE"),))] * 2
    assert answers[0] == answers[1]
    assert STRICT_TRANSPORT in answers[0][1]


def test_a_body_that_the_server_did_not_receive_is_too_large_for_both(app: Flask, redis: Redis):
    for query in ("", "by=flask"):
        answer = ask(app, "/event", b"", {}, redis, QUERY_STRING=query, CONTENT_LENGTH="9000000")
        assert answer[0] == "413 REQUEST ENTITY TOO LARGE"


def test_an_event_is_answered_without_flask(settings: Settings, journal: Journal, wake_ups: WakeUps, redis: Redis):
    flask = create_app(settings, make_services(settings, journal=journal), wake_ups)
    flask.before_request(lambda: pytest.fail("Flask was asked"))
    for path, bodies in BODIES.items():
        status, *_, written = ask(flask, path, json.dumps(bodies[0]).encode(), {}, redis)
        assert (status[0], written) == ("2", 1), path
