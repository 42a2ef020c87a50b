"""The pool of threads on a real event loop, with real threads."""

import asyncio
import threading
from collections.abc import Iterator

import pytest
import uvloop

from web.fair_pool import FairPool


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = uvloop.new_event_loop()
    yield loop
    loop.close()


def test_a_client_with_many_jobs_gets_no_more_than_its_share_of_threads_and_others_have_their_turn(
    loop: asyncio.AbstractEventLoop,
):
    pool = FairPool(loop, 4, 100, 1000)
    go, order = threading.Event(), []
    running = threading.Semaphore(0)

    def wait() -> None:
        running.release()
        assert go.wait(10)

    async def run() -> None:
        for _ in range(40):
            pool.submit("greedy", 1, wait, lambda _: order.append("greedy"))
        for _ in range(3):
            assert await asyncio.to_thread(running.acquire, timeout=10)
        done = loop.create_future()
        pool.submit("other", 1, lambda: "result", done.set_result)
        assert await asyncio.wait_for(done, 10) == "result", "a thread was free"
        for _ in range(5):
            pool.submit("other", 1, wait, lambda _: order.append("other"))
        go.set()
        while len(order) < 45:
            await asyncio.sleep(0.001)

    loop.run_until_complete(run())
    pool.close()
    assert order.count("other") == 5
    assert max(n for n, name in enumerate(order) if name == "other") < 20, "it did not wait for all of the other's jobs"


def test_a_client_gets_half_of_the_queue_in_jobs_and_in_bytes(loop: asyncio.AbstractEventLoop):
    pool = FairPool(loop, 2, 10, 1000)
    go = threading.Event()

    async def run() -> None:
        assert pool.accepts("large", 500)
        assert not pool.accepts("large", 501)
        for _ in range(5):
            assert pool.accepts("many", 10)
            pool.submit("many", 10, lambda: go.wait(10), lambda _: None)
        assert not pool.accepts("many", 0)
        assert pool.accepts("other", 0)
        for name in "abcde":
            pool.submit(name, 0, lambda: go.wait(10), lambda _: None)
        assert not pool.accepts("other", 0), "it is full"
        go.set()
        while not pool.accepts("many", 500):
            await asyncio.sleep(0.001)

    loop.run_until_complete(run())
    pool.close()


def test_the_jobs_of_all_clients_together_keep_no_more_bytes_than_the_pool_may(loop: asyncio.AbstractEventLoop):
    pool = FairPool(loop, 2, 100, 1000)
    go = threading.Event()

    async def run() -> None:
        for name in ("a", "b", "c"):
            assert pool.accepts(name, 300)
            pool.submit(name, 300, lambda: go.wait(10), lambda _: None)
        assert pool.accepts("d", 100)
        assert not pool.accepts("d", 101)
        go.set()
        while not pool.accepts("d", 500):
            await asyncio.sleep(0.001)

    loop.run_until_complete(run())
    pool.close()


def test_work_that_fails_has_the_result_none(loop: asyncio.AbstractEventLoop):
    pool = FairPool(loop, 1, 10, 1000)

    async def run() -> None:
        done = loop.create_future()
        pool.submit("ann", 0, lambda: 1 / 0, done.set_result)
        assert await asyncio.wait_for(done, 10) is None

    loop.run_until_complete(run())
    pool.close()
