"""A load generator: so many connections, each sending its next request when the last one is answered.

asyncio on bare sockets, about 40 µs of CPU a request, so that the client does not eat what it measures. Every request
must differ (an id of its own), hence no ready-made tool.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass
class Load:
    """What a run saw. `answered`: numbers of the requests answered with 200; `latencies`: seconds, of all answers.

    `dropped`: connections that the server closed before the end."""

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
        self.done = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._send()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._run.is_over():
            self._run.load.dropped += 1
        if not self.done.done():
            self.done.set_result(None)

    def _send(self) -> None:
        self._number = self._run.next_number()
        self._sent_at = time.perf_counter()
        self._transport.write(self._run.render(self._number))

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, separator, body = self._buffer.partition(b"\r\n\r\n")
        if not separator:
            return
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0])
        if len(body) < length:
            return
        self._buffer = b""
        self._run.note(int(head[9:12]), time.perf_counter() - self._sent_at, self._number)
        if self._run.is_over():
            self._transport.close()
        else:
            self._send()


class _Run:
    def __init__(self, render: Callable[[int], bytes], seconds: float) -> None:
        self.render = render
        self.load = Load()
        self._number = 0
        self._end = time.perf_counter() + seconds

    def next_number(self) -> int:
        self._number += 1
        return self._number

    def note(self, status: int, latency: float, number: int) -> None:
        self.load.statuses[status] += 1
        self.load.latencies.append(latency)
        if status == 200:
            self.load.answered.append(number)

    def is_over(self) -> bool:
        return time.perf_counter() >= self._end


def post_request(host: str, path: str, body: bytes) -> bytes:
    return b"POST %b HTTP/1.1\r\nHost: %b\r\nContent-Length: %d\r\n\r\n%b" % (
        path.encode(), host.encode(), len(body), body
    )  # fmt: skip


def run_load(port: int, render: Callable[[int], bytes], *, connections: int, seconds: float) -> Load:
    """Send `render(1)`, `render(2)`, ... over keep-alive connections to a loopback port for so long."""

    async def run() -> Load:
        state = _Run(render, seconds)
        start = time.perf_counter()
        loop = asyncio.get_running_loop()
        made = [await loop.create_connection(lambda: _Connection(state), "127.0.0.1", port) for _ in range(connections)]
        await asyncio.gather(*[protocol.done for _, protocol in made])
        state.load.seconds = time.perf_counter() - start
        return state.load

    return asyncio.run(run())
