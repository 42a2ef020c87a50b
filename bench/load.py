"""A load generator: a fixed number of clients, each of which sends its next request when the last one is answered.

A client keeps its connection until the server closes it or announces that, as HTTP requires, and then opens a new one.

It uses asyncio on bare sockets, with about 40 µs of CPU per request, so that the client does not use the CPU that it
measures. Every request must differ (by its own id), therefore no ready-made tool is used.
"""

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass
class Load:
    """The results of a run.

    `answered`: the numbers of the requests answered with 200. `latencies`: seconds, of all answers.

    `dropped`: requests that were never answered, because the connection broke.
    """

    seconds: float = 0.0
    statuses: Counter[int] = field(default_factory=Counter)
    latencies: list[float] = field(default_factory=list)
    answered: list[int] = field(default_factory=list)
    dropped: int = 0

    @property
    def rate(self) -> float:
        return sum(self.statuses.values()) / self.seconds

    def latency(self, share: float) -> float:
        """Milliseconds within which this share of the answers came."""
        ordered = sorted(self.latencies)
        return ordered[min(int(len(ordered) * share), len(ordered) - 1)] * 1000


class _Connection(asyncio.Protocol):
    def __init__(self, run: "_Run") -> None:
        self._run = run
        self._buffer = b""
        self._number = 0
        self._sent_at = 0.0
        self._waits = False
        self.lost = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._send()

    def connection_lost(self, exc: Exception | None) -> None:
        self._run.load.dropped += self._waits
        self.lost.set_result(None)

    def _send(self) -> None:
        if self._transport.is_closing():
            return
        if self._run.is_over():
            self._transport.close()
            return
        self._waits = True
        self._number = self._run.next_number()
        self._sent_at = time.perf_counter()
        self._transport.write(self._run.render(self._number))

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, separator, body = self._buffer.partition(b"\r\n\r\n")
        if not separator:
            return
        head = head.lower()
        length = int(head.partition(b"content-length:")[2].split(b"\r\n", 1)[0])
        if len(body) < length:
            return
        self._buffer = b""
        self._waits = False
        self._run.note(int(head[9:12]), time.perf_counter() - self._sent_at, self._number)
        if b"\r\nconnection: close" in head:
            self._transport.close()
        elif self._run.pause:
            asyncio.get_running_loop().call_later(self._run.pause, self._send)
        else:
            self._send()


class _Run:
    def __init__(self, render: Callable[[int], bytes], seconds: float, pause: float, stop: threading.Event) -> None:
        self.render = render
        self.pause = pause
        self.load = Load()
        self._number = 0
        self._end = time.perf_counter() + seconds
        self._stop = stop

    def next_number(self) -> int:
        self._number += 1
        return self._number

    def note(self, status: int, latency: float, number: int) -> None:
        self.load.statuses[status] += 1
        self.load.latencies.append(latency)
        if status == 200:
            self.load.answered.append(number)

    def is_over(self) -> bool:
        return time.perf_counter() >= self._end or self._stop.is_set()


def post_request(host: str, path: str, body: bytes) -> bytes:
    return b"POST %b HTTP/1.1\r\nHost: %b\r\nContent-Length: %d\r\n\r\n%b" % (
        path.encode(), host.encode(), len(body), body
    )  # fmt: skip


def run_load(
    port: int,
    render: Callable[[int], bytes],
    *,
    connections: int,
    seconds: float,
    pause: float = 0,
    stop: threading.Event | None = None,
) -> Load:
    """Sends `render(1)`, `render(2)`, ... to a loopback port for `seconds` seconds, or until `stop` is set.

    `pause`: seconds between an answer and the client's next request. Raises OSError if no server listens on the port.
    """

    async def client(state: _Run) -> None:
        loop = asyncio.get_running_loop()
        while not state.is_over():
            _, connection = await loop.create_connection(lambda: _Connection(state), "127.0.0.1", port)
            await connection.lost

    async def run() -> Load:
        state = _Run(render, seconds, pause, stop or threading.Event())
        start = time.perf_counter()
        await asyncio.gather(*[client(state) for _ in range(connections)])
        state.load.seconds = time.perf_counter() - start
        return state.load

    return asyncio.run(run())
