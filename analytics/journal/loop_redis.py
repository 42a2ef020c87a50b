"""A connection to Redis on an event loop, for an append without a thread.

redis-py makes the connection, in a thread: it knows passwords, databases, Unix sockets and sentinels. Then the loop has
the socket. hiredis writes and reads, as it does for redis-py. The shape of a reply is that of redis-py.

Callers must handle RedisError. Unless it is an error reply, the commands may have been executed, or may be later.
"""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from hiredis import Reader, pack_command
from redis import Redis
from redis.connection import SSLConnection
from redis.exceptions import ConnectionError as Disconnected
from redis.exceptions import InvalidResponse, NoScriptError, RedisError, ResponseError
from redis.exceptions import TimeoutError as NoReply

from analytics.redis import REPLICA_WAIT, Command, execute_now

Execute = Callable[[Sequence[Command], int], Awaitable[list[Any]]]


@asynccontextmanager
async def executing_on_loop(redis: Redis) -> AsyncIterator[Execute]:
    """A function like execute_now that does not block the running loop. One call at a time. Raises RedisError."""
    loop = asyncio.get_running_loop()
    if issubclass(redis.connection_pool.connection_class, SSLConnection):  # a loop takes no socket with TLS
        yield lambda commands, replicas: loop.run_in_executor(None, execute_now, redis, commands, replicas)
        return
    connection = _LoopRedis(loop, redis)
    try:
        yield connection.execute
    finally:
        await connection.close()


class _LoopRedis:
    """One connection, with the settings of `redis`. After a failure, the next call opens another one."""

    def __init__(self, loop: asyncio.AbstractEventLoop, redis: Redis) -> None:
        self._loop = loop
        self._redis = redis
        self._patience: float | None = redis.get_connection_kwargs()["socket_timeout"]
        self._connection: _Connection | None = None

    async def execute(self, commands: Sequence[Command], replicas: int) -> list[Any]:
        """See executing_on_loop."""
        if self._connection is None or self._connection.is_closed:
            self._connection = await self._connect()
        wait = [("WAIT", replicas, REPLICA_WAIT)] if replicas else []
        sent = b"".join([pack_command(command) for command in (*commands, *wait)])
        try:
            async with asyncio.timeout(self._patience):
                replies = await self._connection.exchange(sent, len(commands) + len(wait))
            return self._read(commands, replies, replicas)
        except TimeoutError:
            self._connection.close()
            raise NoReply(f"no reply within {self._patience} s") from None
        except RedisError:  # also after an error reply: the server may be a replica now
            self._connection.close()
            raise

    async def close(self) -> None:
        if self._connection:
            self._connection.close()
            await asyncio.sleep(0)  # the loop closes it in its next turn

    def _read(self, commands: Sequence[Command], replies: list[Any], replicas: int) -> list[Any]:
        for reply in replies:
            if isinstance(reply, RedisError):
                raise reply
        if replicas and replies.pop() < replicas:
            raise RedisError(f"fewer than {replicas} replicas confirmed")
        shapes = self._redis.response_callbacks  # as redis-py returns the replies
        return [
            shapes[command[0]](reply) if command[0] in shapes else reply
            for command, reply in zip(commands, replies, strict=True)
        ]

    async def _connect(self) -> "_Connection":
        """Raises RedisError."""
        opened = await self._loop.run_in_executor(None, self._open)
        try:
            _, connection = await self._loop.create_connection(lambda: _Connection(self._loop), sock=opened)
        except OSError as error:
            opened.close()
            raise Disconnected(str(error)) from error
        return connection

    def _open(self) -> socket.socket:
        pool = self._redis.connection_pool
        made = pool.connection_class(**pool.connection_kwargs)
        made.connect()
        opened: socket.socket = made._sock
        made._sock = None  # otherwise `made` closes it in its destructor
        return opened


class _Connection(asyncio.Protocol):
    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._reader = Reader(InvalidResponse, _error_of)
        self._expected = 0  # replies
        self._replies: list[Any] = []
        self._answered: asyncio.Future[list[Any]] | None = None
        self._transport: asyncio.Transport

    @property
    def is_closed(self) -> bool:
        return self._transport.is_closing()

    async def exchange(self, sent: bytes, count: int) -> list[Any]:
        """Sends commands, and returns their `count` replies. An error reply is one of them. Raises RedisError."""
        self._expected, self._answered = count, self._loop.create_future()
        self._transport.write(sent)
        return await self._answered

    def close(self) -> None:
        """Forgets what is not sent yet."""
        self._transport.abort()

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        try:
            self._reader.feed(data)
            while (reply := self._reader.gets()) is not False:
                self._replies.append(reply)
        except InvalidResponse as error:
            self._fail(error)
            return
        if len(self._replies) > self._expected:
            self._fail(InvalidResponse("more replies than commands"))
        elif len(self._replies) == self._expected and self._answered and not self._answered.done():
            self._answered.set_result(self._replies)
            self._replies, self._expected = [], 0

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(Disconnected(f"the connection to Redis ended: {exc or 'closed by Redis'}"))

    def _fail(self, error: RedisError) -> None:
        self._transport.abort()
        if self._answered and not self._answered.done():
            self._answered.set_exception(error)


def _error_of(text: str) -> ResponseError:
    return NoScriptError(text) if text.startswith("NOSCRIPT ") else ResponseError(text)
