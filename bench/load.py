"""A load generator: a fixed number of clients, each of which sends its next request when the last one is answered.

With a rate, each client has times at which it sends, and sends at once if the last answer came later than that.

A client keeps its connection until the server closes it or announces that, as HTTP requires, and then opens a new one.

It uses uvloop on bare sockets, so that the client does not use the CPU that it measures. Every request must differ (by
its own id), therefore no ready-made tool is used.
"""

import asyncio
import threading
import time
from array import array
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

import uvloop


@dataclass
class Load:
    """The results of a run.

    `answered`: the numbers of the requests answered with 200. `latencies`: seconds, of all answers. `accepted`:
    seconds, of answers with 200.

    `dropped`: requests that were never answered, because the connection broke. `without_retry_after`: answers with 503
    that do not say when to send the request again.
    """

    seconds: float = 0.0
    statuses: Counter[int] = field(default_factory=Counter)
    latencies: "array[float]" = field(default_factory=lambda: array("d"))
    accepted: "array[float]" = field(default_factory=lambda: array("d"))
    answered: "array[int]" = field(default_factory=lambda: array("q"))
    dropped: int = 0
    without_retry_after: int = 0

    @property
    def rate(self) -> float:
        return sum(self.statuses.values()) / self.seconds

    @property
    def accepted_rate(self) -> float:
        return self.statuses[200] / self.seconds

    def latency(self, share: float) -> float:
        """Milliseconds within which this share of the answers came."""
        return _quantile(self.latencies, share)

    def accepted_latency(self, share: float) -> float:
        """The same of the answers with 200."""
        return _quantile(self.accepted, share)


def _quantile(seconds: "array[float]", share: float) -> float:
    """Milliseconds. 0 if there are none."""
    ordered = sorted(seconds)
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)] * 1000 if ordered else 0.0


class _Connection(asyncio.Protocol):
    def __init__(self, run: "_Run", schedule: "_Schedule") -> None:
        self._run = run
        self._schedule = schedule
        self._buffer = b""
        self._number = 0
        self._sent_at = 0.0
        self._waits = False
        self.lost = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass
        self._send_later(self._schedule.first())

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
        self._run.note(int(head[9:12]), time.perf_counter() - self._sent_at, self._number, head)
        if b"\r\nconnection: close" in head:
            self._transport.close()
        else:
            self._send_later(self._schedule.next())

    def _send_later(self, pause: float) -> None:
        if pause > 0:
            asyncio.get_running_loop().call_later(pause, self._send)
        else:
            self._send()


class _Schedule:
    """When a client sends: a pause after each answer, or every `interval` seconds, the first time after `delay`."""

    def __init__(self, pause: float, interval: float, delay: float) -> None:
        self._pause = pause
        self._interval = interval
        self._due = time.perf_counter() + delay

    def first(self) -> float:
        """Seconds to wait before a connection's first request."""
        return self._due - time.perf_counter() if self._interval else 0.0

    def next(self) -> float:
        """Seconds to wait after an answer."""
        if not self._interval:
            return self._pause
        now = time.perf_counter()
        self._due = max(self._due + self._interval, now)
        return self._due - now


class _Run:
    def __init__(self, render: Callable[[int], bytes], seconds: float, stop: threading.Event) -> None:
        self.render = render
        self.load = Load()
        self._number = 0
        self._end = time.perf_counter() + seconds
        self._stop = stop

    def next_number(self) -> int:
        self._number += 1
        return self._number

    def note(self, status: int, latency: float, number: int, head: bytes) -> None:
        """`head`: of the answer, in lower case."""
        self.load.statuses[status] += 1
        self.load.latencies.append(latency)
        if status == 200:
            self.load.answered.append(number)
            self.load.accepted.append(latency)
        elif status == 503 and b"\r\nretry-after: " not in head:
            self.load.without_retry_after += 1

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
    rate: float = 0,
    stop: threading.Event | None = None,
) -> Load:
    """Sends `render(1)`, `render(2)`, ... to a loopback port for `seconds` seconds, or until `stop` is set.

    `pause`: seconds between an answer and the client's next request. `rate`: requests a second of all clients together,
    instead of a pause; fewer are sent if all clients wait for answers. Raises OSError if no server listens on the port.
    """
    interval = connections / rate if rate else 0.0

    async def client(state: _Run, number: int) -> None:
        loop = asyncio.get_running_loop()
        schedule = _Schedule(pause, interval, interval * number / connections)
        while not state.is_over():
            _, connection = await loop.create_connection(lambda: _Connection(state, schedule), "127.0.0.1", port)
            await connection.lost

    async def run() -> Load:
        state = _Run(render, seconds, stop or threading.Event())
        start = time.perf_counter()
        await asyncio.gather(*[client(state, number) for number in range(connections)])
        state.load.seconds = time.perf_counter() - start
        return state.load

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(run())
