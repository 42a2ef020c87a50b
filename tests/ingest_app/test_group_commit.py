"""Entries share a write only while another is in flight, and each has the outcome of its own write."""

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvloop

from ingest_app.group_commit import GroupCommit
from tests.support.running_system import wait_for


class Disk:
    """A write that a test can delay and make fail. It records its entries, and the threads that called it."""

    def __init__(self) -> None:
        self.writes: list[list[bytes]] = []
        self.threads: list[int] = []
        self.error: Exception | None = None
        self.go = threading.Event()
        self.go.set()

    def write(self, entries: Sequence[bytes]) -> None:
        self.writes.append(list(entries))
        self.threads.append(threading.get_ident())
        error = self.error
        assert self.go.wait(10)
        if error:
            raise error


@pytest.fixture
def disk() -> Disk:
    return Disk()


@pytest.fixture
def running_loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = uvloop.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield loop
    asyncio.run_coroutine_threadsafe(end_tasks(), loop).result(10)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(10)
    loop.close()


async def end_tasks() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


@pytest.fixture(params=["thread", "loop"])
def make(
    request: pytest.FixtureRequest, disk: Disk, running_loop: asyncio.AbstractEventLoop
) -> Callable[..., GroupCommit]:
    """Makes a GroupCommit that writes to `disk`, on a thread of its own or on a loop."""

    @asynccontextmanager
    async def writing() -> AsyncIterator[Callable[[Sequence[bytes]], Awaitable[None]]]:
        yield lambda entries: running_loop.run_in_executor(None, disk.write, entries)

    def made(**options: Any) -> GroupCommit:
        commits = GroupCommit(disk.write, **options)
        if request.param == "loop":
            running_loop.call_soon_threadsafe(commits.use_loop, running_loop, writing())
            asyncio.run_coroutine_threadsafe(asyncio.sleep(0), running_loop).result(10)
        return commits

    return made


@pytest.fixture
def commits(make: Callable[..., GroupCommit]) -> GroupCommit:
    return make()


def test_an_idle_collector_writes_at_once_and_never_on_the_thread_of_a_request(
    disk: Disk, make: Callable[..., GroupCommit]
):
    commits = make(pause=60)
    commits.append([b"1"]).result(10)
    commits.append([b"2", b"3"]).result(10)
    assert disk.writes == [[b"1"], [b"2", b"3"]]
    assert threading.get_ident() not in disk.threads


def test_without_a_loop_one_thread_writes(disk: Disk):
    commits = GroupCommit(disk.write)
    for entry in (b"1", b"2", b"3"):
        commits.append([entry]).result(10)
    assert len(set(disk.threads)) == 1


def test_entries_that_exceed_one_write_are_split(disk: Disk, make: Callable[..., GroupCommit]):
    commits = make(most=10, size=lambda entries: sum(map(len, entries)))
    disk.go.clear()
    waiting = [commits.append([b"first"])]
    wait_for(lambda: disk.writes, "the first write")
    waiting += [commits.append([b"%03d" % n, b"x"]) for n in range(8)]
    waiting.append(commits.append([b"larger than one write may be"]))
    disk.go.set()
    for written in waiting:
        written.result(10)
    assert disk.writes == [
        [b"first"],
        *[[b"%03d" % n, b"x", b"%03d" % (n + 1), b"x"] for n in range(0, 8, 2)],
        [b"larger than one write may be"],
    ]


def share_a_write(commits: GroupCommit, disk: Disk) -> tuple[Future, list[Future]]:
    """One write that is delayed, and ten more that arrived meanwhile."""
    disk.go.clear()
    first = commits.append([b"first"])
    wait_for(lambda: disk.writes, "the first write")
    return first, [commits.append([b"%d" % n]) for n in range(10)]


def test_entries_that_arrive_during_a_write_share_the_next_one(commits: GroupCommit, disk: Disk):
    first, others = share_a_write(commits, disk)
    assert not any(written.done() for written in [first, *others]), "no future is done before its write is"
    disk.go.set()
    for written in [first, *others]:
        written.result(10)
    assert disk.writes == [[b"first"], [b"%d" % n for n in range(10)]]


def test_without_a_loop_the_next_write_waits_for_more_requests_after_one_that_they_shared(disk: Disk):
    commits = GroupCommit(disk.write, pause=0.5)
    _, others = share_a_write(commits, disk)
    disk.go.set()
    others[0].result(10)
    for written in [commits.append([b"soon"]), commits.append([b"and more"])]:
        written.result(10)
    assert disk.writes[2:] == [[b"soon", b"and more"]]


@pytest.mark.parametrize("make", ["loop"], indirect=True)
def test_on_a_loop_requests_that_come_turn_after_turn_share_a_write(
    disk: Disk, make: Callable[..., GroupCommit], running_loop: asyncio.AbstractEventLoop
):
    commits = make(pause=60)
    _, others = share_a_write(commits, disk)
    disk.go.set()
    others[0].result(10)

    async def come() -> Future:
        for n in range(20):
            written = commits.append([b"%d" % n])
            await asyncio.sleep(0)
        return written

    asyncio.run_coroutine_threadsafe(come(), running_loop).result(10).result(10)
    assert disk.writes[2:] == [[b"%d" % n for n in range(20)]]


@pytest.mark.parametrize("make", ["loop"], indirect=True)
def test_on_a_loop_requests_that_never_cease_are_written_after_the_pause(
    disk: Disk, make: Callable[..., GroupCommit], running_loop: asyncio.AbstractEventLoop
):
    commits = make(pause=0.01)
    _, others = share_a_write(commits, disk)
    disk.go.set()
    others[0].result(10)

    async def come_until_the_first_is_written() -> None:
        first = commits.append([b"first"])
        while not first.done():
            commits.append([b"another"])
            await asyncio.sleep(0)

    asyncio.run_coroutine_threadsafe(come_until_the_first_is_written(), running_loop).result(10)
    assert disk.writes[2][:2] == [b"first", b"another"]


def test_an_error_of_a_write_reaches_the_requests_that_shared_it_and_no_other(commits: GroupCommit, disk: Disk):
    first, others = share_a_write(commits, disk)
    disk.error = OSError("disk full")
    disk.go.set()
    first.result(10)
    for written in others:
        with pytest.raises(OSError, match="disk full"):
            written.result(10)
    disk.error = None
    commits.append([b"after"]).result(10)
    assert disk.writes[-1] == [b"after"]


def test_under_heavy_load_every_entry_is_written_once(commits: GroupCommit, disk: Disk):
    entries = [b"%d" % n for n in range(5000)]
    with ThreadPoolExecutor(20) as requests:
        list(requests.map(lambda entry: commits.append([entry]).result(10), entries))
    written = [entry for write in disk.writes for entry in write]
    assert len(written) == 5000
    assert set(written) == set(entries)
