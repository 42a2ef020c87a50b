"""Broken requests, and requests that claim to come through a proxy, to both real apps: the answers and the log."""

import json
import re
import socket
import struct
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from config.settings import Settings
from footfall.embedded_servers import pick_port
from tests.support.running_system import running_alone, wait_for
from tests.support.services import ADMIN_KEY
from tests.system.test_deployment import PROCFILE

APPS = {"ingest": ("INGESTION_PORT", b"/events"), "report": ("REPORTING_PORT", b"/api/v2/query")}
POST = b"POST /events HTTP/1.1\r\nHost: footfall\r\n"
GET = b"GET /healthz HTTP/1.1\r\nHost: footfall\r\n"

MALFORMED = {
    "no HTTP": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    "no version": b"GET /\r\n\r\n",
    "a version of its own": b"GET / HTTP/9.9\r\n\r\n",
    "no method": b"\x00\xff / HTTP/1.1\r\nHost: x\r\n\r\n",
    "no header": GET + b"nonsense\r\n\r\n",
    "a header with a zero byte": GET + b"X-A: a\x00b\r\n\r\n",
    "a name that is none": GET + b"X(A): a\r\n\r\n",
    "a length that is none": POST + b"Content-Length: -5\r\n\r\n",
    "two lengths": POST + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n[]x",
    "a length and chunks": POST + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a chunk that is none": POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n[]\r\n0\r\n\r\n",
    "a chunk that is longer": POST + b"Transfer-Encoding: chunked\r\n\r\n2\r\n[]xx\r\n0\r\n\r\n",
    "an odd trailer": POST + b"Transfer-Encoding: chunked\r\n\r\n2\r\n[]\r\n0\r\nbad trailer\r\n\r\n",
    "very many headers": GET + b"".join(b"X-%d: a\r\n" % n for n in range(500)) + b"\r\n",
    "a long line": b"GET /" + b"x" * 10_000 + b" HTTP/1.1\r\n\r\n",
    "a path that is no text": b"GET /\xff\xfe?\xff=%ff%zz HTTP/1.1\r\nHost: \xff\r\n\r\n",
    "a host that is none": b"GET /healthz HTTP/1.1\r\nHost: [::1\r\n\r\n",
    "half a body": POST + b"Content-Length: 100\r\n\r\n[",
    "a gzip that is none": POST + b"Content-Encoding: gzip\r\nContent-Length: 2\r\n\r\n[]",
}
VALID = {"a host that is none", "a gzip that is none"}  # in HTTP, so an app answers them


@dataclass(frozen=True)
class Server:
    """One of the apps. `route`: a route that reads a body."""

    port: int
    log: Path
    route: bytes


@pytest.fixture(scope="module", params=APPS)
def server(
    request: pytest.FixtureRequest, settings: Settings, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    port = pick_port(0)
    port_name, route = APPS[request.param]
    log = tmp_path_factory.mktemp("broken") / "log"
    environment = {
        "REDIS_URL": settings.redis_url,
        "MONGODB_URI": settings.mongodb_uri,
        port_name: str(port),
        "WEB_CONCURRENCY": "1",
        "ADMIN_KEY": ADMIN_KEY,
        "LOG_FORMAT": "json",
    }
    with running_alone(PROCFILE[request.param], log, **environment):
        wait_for(lambda: is_up(port), "gunicorn")
        assert httpx.get(f"http://127.0.0.1:{port}/healthz", timeout=30).status_code == 200, "its start is logged"
        yield Server(port, log, route)


def is_up(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def send(port: int, raw: bytes) -> bytes:
    """The whole answer."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as sock:
        with suppress(OSError):
            sock.sendall(raw)
            sock.shutdown(socket.SHUT_WR)
        found = b""
        with suppress(OSError):
            while piece := sock.recv(65536):
                found += piece
        return found


def counted(port: int) -> float:
    page = httpx.get(f"http://127.0.0.1:{port}/metrics", headers={"Authorization": f"Bearer {ADMIN_KEY}"}).text
    return sum(float(n) for n in re.findall(r"^footfall_broken_requests_total\{.*\} (.*)$", page, re.MULTILINE))


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_request_is_answered_and_not_logged_as_an_error(server: Server, name: str):
    before = len(server.log.read_text())
    answer = send(server.port, MALFORMED[name])
    assert re.match(rb"HTTP/1\.1 [24]\d\d ", answer)
    assert httpx.get(f"http://127.0.0.1:{server.port}/healthz").status_code == 200
    text = server.log.read_text()[before:]
    said = [json.loads(line) for line in text.splitlines()]
    assert [(line["event"], line["level"]) for line in said] == ([] if name in VALID else [("request_broken", "info")])
    assert "127.0.0.1" not in text


@pytest.mark.parametrize("framing", [b"Content-Length: 2000\r\n\r\n[", b"Transfer-Encoding: chunked\r\n\r\nffff\r\n["])
def test_a_reset_within_a_body_is_one_line_and_is_counted(server: Server, framing: bytes):
    before, noted = len(server.log.read_text()), counted(server.port)
    head, _, body = framing.partition(b"\r\n\r\n")
    request = b"POST %s HTTP/1.1\r\nHost: footfall\r\nExpect: 100-continue\r\n%s\r\n\r\n" % (server.route, head)
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as sock:
        sock.sendall(request)
        assert sock.recv(100).startswith(b"HTTP/1.1 100 ")
        sock.sendall(body)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # so that close() sends RST
    wait_for(lambda: counted(server.port) == noted + 1, "a count")
    said = [json.loads(line) for line in server.log.read_text()[before:].splitlines()]
    assert [(line["event"], line["level"]) for line in said] == [("request_broken", "info")]


def test_odd_requests_that_are_valid_are_answered_in_order_on_one_connection(server: Server):
    host, key = b"Host: footfall\r\n", b"Authorization: Bearer %s\r\n" % ADMIN_KEY.encode()
    requests = [
        b"HEAD /healthz HTTP/1.1\r\n" + host,
        b"GET http://footfall/healthz HTTP/1.1\r\n" + host,
        b"OPTIONS * HTTP/1.1\r\n" + host,
        b"GET /healthz HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: websocket\r\n",
        b"GET /healthz HTTP/1.0\r\nConnection: keep-alive\r\n",
        b"GET /export/events?site_id=shop HTTP/1.1\r\n" + key,  # the reporting app answers in pieces
        b"HEAD /export/events?site_id=shop HTTP/1.1\r\n" + key,
        b"GET /docs/swagger-ui-bundle.js HTTP/1.1\r\n" + host,
        b"POST %s HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2;a=b\r\n{}\r\n0\r\nX-Trailer: a" % server.route,
        b"GET /last HTTP/1.1\r\nConnection: close\r\n",
    ]
    answers = send(server.port, b"".join(x.rstrip() + b"\r\n\r\n" for x in requests))
    assert len(re.findall(rb"HTTP/1\.1 \d\d\d ", answers)) == len(requests)
    assert b"There is no route /last." in answers.rpartition(b"\r\n\r\n")[2]


def test_forwarded_headers_from_loopback_are_not_trusted(server: Server):
    base = f"http://127.0.0.1:{server.port}"
    headers = {
        "SCRIPT_NAME": "/elsewhere",
        "PATH_INFO": "/elsewhere/healthz",
        "X-Forwarded-Proto": "https",
        "X-Forwarded-Ssl": "on",
        "X-Forwarded-Protocol": "ssl",
        "Forwarded": "proto=https;host=other.example",
    }
    for name, value in headers.items():
        for path in ("/healthz", "/elsewhere/healthz"):
            plain = httpx.get(f"{base}{path}")
            claimed = httpx.get(f"{base}{path}", headers={name: value})
            assert (claimed.status_code, claimed.text) == (plain.status_code, plain.text), (name, path)
            assert "Strict-Transport-Security" not in claimed.headers, name
