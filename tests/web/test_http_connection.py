"""Connections on a real event loop, over a pair of sockets, with a small server that answers what it was asked."""

import asyncio
import re
import socket
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import pairwise, repeat

import pytest
import uvloop
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from web.errors import BUSY, NOT_HTTP
from web.http_connection import (
    LINGER,
    LONGEST_HEAD,
    MOST_BODY,
    PER_SECOND,
    READ_SECONDS,
    SLICE,
    Connection,
    render_error,
)
from web.http_request import _KEYS, Request

LATER, PIECES, ENDLESS_PIECES, PIECES_LATER, LARGE = b"/later", b"/pieces", b"/endless", b"/pieces-later", b"/large"
CHUNKED = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"


class Parrot:
    """Answers each request with its target and its body. Some targets are answered later, or in pieces."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.is_stopping = False
        self.open: set[Connection] = set()
        self.held = self.most_held = 0
        self.stopped = 0
        self.requests: list[Request] = []
        self.bodies: list[bytes] = []
        self._loop = loop

    def opened(self, connection: Connection) -> None:
        self.open.add(connection)

    def closed(self, connection: Connection) -> None:
        self.open.discard(connection)

    def read_later(self, connection: Connection) -> None:
        self._loop.call_soon(connection.read_on)

    def note_held(self, size: int) -> None:
        self.held += size
        self.most_held = max(self.held, self.most_held)

    def take(self, connection: Connection, request: Request) -> None:
        self.requests.append(request)
        self.bodies.append(bytes(request.body))
        body = b"<%s %s>" % (request.url, bytes(request.body) if not request.is_cut else b"too long")
        if request.url == PIECES_LATER:
            self._loop.call_later(0.001, self._stream, connection, [body])
            return
        if request.url in (PIECES, ENDLESS_PIECES):
            self._stream(connection, [body[:5], body[5:]] if request.url == PIECES else repeat(body))
            return
        if request.url.startswith(LARGE):
            body += b"x" * 5_000_000
        answer = lambda: connection.finish(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n" % len(body), body)  # noqa: E731
        if request.url.startswith(LATER):
            self._loop.call_later(0.001, answer)
        else:
            answer()

    def _stream(self, connection: Connection, body: Iterable[bytes]) -> None:
        pieces = iter(body)

        def more() -> None:
            piece = next(pieces, None)
            answer = connection.end if piece is None else connection.piece
            self._loop.call_later(0.0005, answer, piece or b"")

        connection.stream(b"HTTP/1.1 200 OK\r\n", more, self._note_stop, is_sized=False)

    def _note_stop(self) -> None:
        self.stopped += 1


class Client:
    """The other end of a connection."""

    def __init__(self, loop: asyncio.AbstractEventLoop, server: Parrot) -> None:
        self._loop = loop
        self._server = server

    async def connect(self) -> "Client":
        self.sock, theirs = socket.socketpair()
        self.sock.setblocking(False)
        _, self.connection = await self._loop.connect_accepted_socket(
            lambda: Connection(self._server, self._loop), theirs
        )
        return self

    async def send(self, *packets: bytes) -> None:
        for packet in packets:
            with suppress(OSError):  # the server may have closed
                await self._loop.sock_sendall(self.sock, packet)
            for _ in range(3):
                await asyncio.sleep(0)

    async def read(self) -> bytes:
        """What arrives until the server closes, or sends nothing for a while."""
        found = b""
        with suppress(TimeoutError, OSError):
            while piece := await asyncio.wait_for(self._loop.sock_recv(self.sock, 262144), 0.3):
                found += piece
        return found

    async def read_to_end(self) -> bytes:
        found = b""
        while piece := await asyncio.wait_for(self._loop.sock_recv(self.sock, 262144), 10):
            found += piece
        return found


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = uvloop.new_event_loop()
    errors: list[dict[str, object]] = []
    loop.set_exception_handler(lambda _, context: errors.append(context))
    yield loop
    loop.close()
    assert errors == []


async def ask(loop: asyncio.AbstractEventLoop, *packets: bytes) -> tuple[bytes, Parrot]:
    """Sends packets, then ends the input. Returns the responses and the server."""
    server = Parrot(loop)
    client = await Client(loop, server).connect()
    await client.send(*packets)
    with suppress(OSError):
        client.sock.shutdown(socket.SHUT_WR)
    found = await client.read_to_end()
    client.sock.close()
    for _ in range(100):
        await asyncio.sleep(0.001)
        if not server.open:
            break
    assert not server.open
    assert server.held == 0, "what was held is given back"
    return found, server


def statuses(answers: bytes) -> list[int]:
    return [int(x) for x in re.findall(rb"HTTP/1\.1 (\d\d\d) ", answers)]


METHOD = st.sampled_from([b"GET", b"POST", b"PUT", b"OPTIONS"])
TARGET = st.sampled_from([b"/", b"/a?b=c", LATER, PIECES, b"http://footfall/x"])
HEADER = st.sampled_from([b"Host: footfall", b"X-Long: " + b"y" * 3000, b"Cookie: a=b", b"Expect: nothing",
                          b"Connection: upgrade\r\nUpgrade: h2c", b"Connection: keep-alive"])  # fmt: skip
BODY = st.one_of(st.none(), st.binary(max_size=20), st.binary(min_size=1, max_size=1).map(lambda x: x * 5000))


@st.composite
def a_request(draw: st.DrawFn) -> bytes:
    lines = [draw(METHOD) + b" " + draw(TARGET) + b" HTTP/1.1", *draw(st.lists(HEADER, max_size=3, unique=True))]
    body = draw(BODY)
    if body is None:
        return b"\r\n".join([*lines, b"", b""])
    if draw(st.booleans()):
        return b"\r\n".join([*lines, b"Content-Length: %d" % len(body), b"", body])
    size = draw(st.integers(1, 3000))
    extension = draw(st.sampled_from([b"", b";a=b", b';a="b"']))
    chunks = [body[x : x + size] for x in range(0, len(body), size)]
    framed = [b"%x%s\r\n%s\r\n" % (len(x), extension, x) for x in chunks]
    trailer = draw(st.sampled_from([b"", b"X-Sum: 1\r\n"]))
    return b"\r\n".join([*lines, b"Transfer-Encoding: chunked", b"", b"".join(framed) + b"0\r\n" + trailer + b"\r\n"])


@given(st.lists(a_request(), min_size=1, max_size=8), st.data())
@hypothesis_settings(max_examples=150, deadline=None)
def test_any_split_of_requests_into_packets_gets_the_same_responses_in_order(
    loop: asyncio.AbstractEventLoop, requests: list[bytes], data: st.DataObject
):
    whole = b"".join(requests)
    expected, server = loop.run_until_complete(ask(loop, *requests))
    assert len(server.requests) == len(requests)
    assert statuses(expected) == [200] * len(requests)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=30)))
    packets = [whole[x:y] for x, y in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    found, server = loop.run_until_complete(ask(loop, *[x for x in packets if x]))
    # the last response says so, but which one that is depends on when the input ends
    assert found.replace(b"Connection: close\r\n", b"") == expected.replace(b"Connection: close\r\n", b"")


def test_every_byte_may_be_a_packet(loop: asyncio.AbstractEventLoop):
    requests = CHUNKED + b"1\r\na\r\n0\r\n\r\nGET /later HTTP/1.1\r\n\r\n"
    requests += b"POST /b HTTP/1.1\r\nContent-Length: 2\r\n\r\nhi"
    found, _ = loop.run_until_complete(ask(loop, *[requests[x : x + 1] for x in range(len(requests))]))
    assert re.findall(rb"<.*?>", found) == [b"</ a>", b"</later >", b"</b hi>"]


def test_responses_to_requests_before_the_end_of_input_are_all_sent(loop: asyncio.AbstractEventLoop):
    count = 300
    requests = b"".join(b"GET /later?%d HTTP/1.1\r\n\r\n" % n for n in range(count))
    found, _ = loop.run_until_complete(ask(loop, requests))
    assert [int(x) for x in re.findall(rb"</later\?(\d+) >", found)] == list(range(count))


def test_a_packet_of_very_many_requests_is_parsed_as_they_are_answered(loop: asyncio.AbstractEventLoop):
    async def run() -> tuple[Parrot, int]:
        server = Parrot(loop)
        client = await Client(loop, server).connect()
        await client.send(b"GET /later HTTP/1.1\r\n\r\n" + b"GET / HTTP/1.1\r\n\r\n" * 10_000)
        waiting = len(client.connection._waiting)
        client.sock.close()
        while server.open:
            await asyncio.sleep(0.01)
        return server, waiting

    server, waiting = loop.run_until_complete(run())
    assert 0 < waiting <= SLICE / 18
    assert server.held == 0
    assert server.most_held > 10_000, "what is not parsed counts"


def test_a_connection_answers_one_request_in_a_turn_of_the_loop(loop: asyncio.AbstractEventLoop):
    """Each request is as long as a slice, and answered at once."""
    request = b"GET /a HTTP/1.1\r\nX-A: ".ljust(SLICE - 4, b"x") + b"\r\n\r\n"
    server, turns = Parrot(loop), []

    def count() -> None:
        turns.append(len(server.requests))
        if len(server.requests) < 40:
            loop.call_soon(count)

    async def run() -> None:
        client = await Client(loop, server).connect()
        loop.call_soon(count)
        await client.send(request * 40)
        while len(server.requests) < 40:
            await asyncio.sleep(0.001)
        client.sock.close()

    loop.run_until_complete(run())
    assert max(after - before for before, after in pairwise(turns)) <= 2


def test_a_request_with_an_upgrade_is_answered_and_its_body_is_its_own(loop: asyncio.AbstractEventLoop):
    head = b"POST /x HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: h2c\r\nExpect: 100-continue\r\n"
    smuggled = b"GET /smuggled HTTP/1.1\r\n\r\n"
    with_body = head + b"Content-Length: %d\r\n\r\n" % len(smuggled) + smuggled
    found, server = loop.run_until_complete(ask(loop, with_body + b"GET /next HTTP/1.1\r\n\r\n"))
    assert [x.url for x in server.requests] == [b"/x", b"/next"]
    assert server.bodies == [smuggled, b""]
    assert found.count(b" 100 Continue") == 1
    many = b"GET / HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: a\r\n\r\n" * 4000
    found, _ = loop.run_until_complete(ask(loop, many))
    assert statuses(found) == [200] * 4000


ENDLESS: dict[str, tuple[bytes, bytes]] = {
    "a target": (b"GET /", b"x" * 1000),
    "a header": (b"GET / HTTP/1.1\r\nX: ", b"x" * 1000),
    "headers": (b"GET / HTTP/1.1\r\n", b"X: y\r\n" * 100),
    "empty lines": (b"", b"\r\n" * 500),
    "a trailer": (CHUNKED + b"1\r\na\r\n0\r\nX: ", b"x" * 1000),
    "trailers": (CHUNKED + b"1\r\na\r\n0\r\n", b"X: y\r\n" * 100),
    "an extension of a chunk": (CHUNKED + b"1;", b"x" * 1000),
    "zeros of a chunk's size": (CHUNKED, b"0" * 1000),
    "chunks of a byte with extensions": (CHUNKED, b"1;" + b"x" * 100 + b"\r\na\r\n"),
}


@pytest.mark.parametrize("name", ENDLESS)
def test_what_has_no_end_is_refused_early(loop: asyncio.AbstractEventLoop, name: str):
    begin, more = ENDLESS[name]
    sent = 4 * LONGEST_HEAD // len(more)
    found, server = loop.run_until_complete(ask(loop, begin, *[more] * sent))
    assert statuses(found)[0] in (400, 414, 431)
    assert server.requests == []


def test_chunks_of_one_byte_are_a_body(loop: asyncio.AbstractEventLoop):
    found, server = loop.run_until_complete(ask(loop, CHUNKED + b"1\r\na\r\n" * 100_000 + b"0\r\n\r\n"))
    assert statuses(found) == [200]
    assert len(server.bodies[0]) == 100_000


REFUSED = {
    "a length of thousands of digits": b"POST / HTTP/1.1\r\nContent-Length: %s5\r\n\r\nhello" % (b"0" * 5000),
    "a long length": b"POST / HTTP/1.1\r\nContent-Length: %s\r\n\r\n" % (b"9" * 5000),
    "chunks in HTTP/1.0": b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "two encodings": b"POST / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "a length and chunks": b"POST / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunks and a length": b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    "a bare line feed": b"GET / HTTP/1.1\nHost: x\n\n",
    "a space before a colon": b"POST / HTTP/1.1\r\nContent-Length : 5\r\n\r\nhello",
    "a folded header": b"GET / HTTP/1.1\r\nX: a\r\n b\r\n\r\n",
    "a tunnel": b"CONNECT example.org:443 HTTP/1.1\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_two_servers_could_read_differently_is_refused_and_nothing_after_it_is_read(
    loop: asyncio.AbstractEventLoop, name: str
):
    found, server = loop.run_until_complete(ask(loop, REFUSED[name] + b"GET /smuggled HTTP/1.1\r\n\r\n"))
    assert statuses(found)[0] in (400, 501)
    assert len(statuses(found)) == 1
    assert [x.url for x in server.requests] == []


def test_a_refusal_is_sent_after_the_responses_before_it(loop: asyncio.AbstractEventLoop):
    begun = b"GET /later HTTP/1.1\r\n\r\nGET /pieces HTTP/1.1\r\n\r\n"
    found, _ = loop.run_until_complete(ask(loop, begun + b"nonsense\r\n"))
    assert statuses(found) == [200, 200, 400]


def test_a_body_that_is_too_long_is_answered_and_given_back(loop: asyncio.AbstractEventLoop):
    declared = b"POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % (MOST_BODY + 1)
    found, server = loop.run_until_complete(ask(loop, declared, b"x" * 1000))
    assert found.endswith(b"</ too long>")
    piece = b"10000\r\n" + b"x" * 65536 + b"\r\n"
    found, server = loop.run_until_complete(ask(loop, CHUNKED, *[piece] * (MOST_BODY // 65536 + 1)))
    assert found.endswith(b"</ too long>")
    assert server.most_held < MOST_BODY + 2_000_000


def test_clients_that_do_not_end_a_request_or_read_a_response_expire(loop: asyncio.AbstractEventLoop):
    async def deadlines(*packets: bytes) -> tuple[float, Connection, Client]:
        client = await Client(loop, Parrot(loop)).connect()
        begin = loop.time()
        await client.send(*packets)
        await asyncio.sleep(0.02)
        return client.connection.deadline - begin, client.connection, client

    async def run() -> dict[str, tuple[float, bytes]]:
        found = {}
        for name, packets in {
            "silent": [],
            "half a head": [b"GET / HT"],
            "half a body": [b"POST / HTTP/1.1\r\nContent-Length: 100\r\nExpect: 100-continue\r\n\r\n", b"x"],
            "never reads": [b"GET /large HTTP/1.1\r\n\r\n"],
            "pipelines": [b"GET /large HTTP/1.1\r\n\r\n" * 50],
            "pieces": [b"GET /pieces HTTP/1.1\r\n\r\nGET /large HTTP/1.1\r\n\r\n" * 50],
        }.items():
            seconds, connection, client = await deadlines(*packets)
            connection.expire()
            await asyncio.sleep(0.01)
            last = connection._transport.is_closing() or connection.deadline - loop.time() <= LINGER
            assert last, name
            connection.expire()
            found[name] = seconds, await client.read()
            client.sock.close()
        return found

    found = loop.run_until_complete(run())
    assert found["silent"][1] == b""
    assert statuses(found["half a head"][1]) == [408]
    assert statuses(found["half a body"][1]) == [100, 408]
    for name, (seconds, answer) in found.items():
        most = READ_SECONDS + 1 + 5_000_000 / PER_SECOND
        assert READ_SECONDS - 1 < seconds < most, name
        assert len(answer) < 5_500_000, name


def test_a_stream_whose_reader_stops_or_goes_is_closed_once(loop: asyncio.AbstractEventLoop):
    async def run(target: bytes, client_goes: bool) -> int:
        server = Parrot(loop)
        client = await Client(loop, server).connect()
        await client.send(b"GET %s HTTP/1.1\r\n\r\n" % target)
        if client_goes:
            client.sock.close()
        else:
            client.connection.abort()
        await asyncio.sleep(0.02)
        client.sock.close()
        return server.stopped

    for target in (ENDLESS_PIECES, PIECES_LATER):
        for client_goes in (True, False):
            assert loop.run_until_complete(run(target, client_goes)) == 1


@pytest.mark.parametrize("stage", ["silent", "head", "body", "later", "pieces", "large", "pipeline", "refused"])
@pytest.mark.parametrize("way", ["abort", "reset", "end of input", "expire", "stop"])
def test_a_connection_ends_at_any_stage_without_an_error(loop: asyncio.AbstractEventLoop, stage: str, way: str):
    packets = {
        "silent": b"",
        "head": b"GET / HTTP/1.1\r\nX: ",
        "body": b"POST / HTTP/1.1\r\nContent-Length: 10\r\n\r\nx",
        "later": b"GET /later HTTP/1.1\r\n\r\n",
        "pieces": b"GET /pieces HTTP/1.1\r\n\r\n",
        "large": b"GET /large HTTP/1.1\r\n\r\n",
        "pipeline": b"GET /later HTTP/1.1\r\n\r\n" * 100 + b"GET /large HTTP/1.1\r\n\r\n" * 5,
        "refused": b"nonsense\r\n\r\n",
    }

    async def run() -> None:
        server = Parrot(loop)
        client = await Client(loop, server).connect()
        await client.send(packets[stage])
        if way == "reset":
            client.sock.close()
        elif way == "end of input":
            client.sock.shutdown(socket.SHUT_WR)
            await client.read_to_end()
        elif way == "stop":
            server.is_stopping = True
            await client.read()
            client.connection.expire()
        elif server.open:
            client.connection.expire() if way == "expire" else client.connection.abort()
        for _ in range(200):
            if not server.open:
                break
            await asyncio.sleep(0.002)
            if way == "expire" and client.connection.deadline - loop.time() < LINGER:
                client.connection.expire()
        client.sock.close()
        for _ in range(100):
            await asyncio.sleep(0.002)
            if not server.open:
                break
        assert server.held == 0
        assert not server.open

    loop.run_until_complete(run())


def test_an_error_that_a_client_may_repeat_says_when():
    head, _ = render_error(503, BUSY)
    assert b"\r\nRetry-After: 1\r\n" in head
    assert b"\r\nRetry-After" not in render_error(400, NOT_HTTP)[0]


def test_a_page_of_any_origin_can_read_an_error_that_no_app_makes():
    head, _ = render_error(503, BUSY)
    assert b"\r\nAccess-Control-Allow-Origin: *\r\n" in head
    assert b"\r\nAccess-Control-Expose-Headers: Retry-After\r\n" in head


def test_long_names_of_headers_that_clients_make_up_are_not_kept():
    before = dict(_KEYS)
    request = Request()
    request.headers = [(b"x" * 8000 + b"%d" % n, b"") for n in range(50)]
    request.environ({})
    assert before == _KEYS
