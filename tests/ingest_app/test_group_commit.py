"""Requests share a write only while another is in flight, and each returns after its own write."""

import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

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
def commits(disk: Disk) -> GroupCommit:
    return GroupCommit(disk.write)


@pytest.fixture
def requests():
    with ThreadPoolExecutor(20) as pool:
        yield pool


def test_an_idle_collector_writes_at_once_on_the_thread_of_the_request(commits: GroupCommit, disk: Disk):
    commits.append([b"1"])
    commits.append([b"2", b"3"])
    assert disk.writes == [[b"1"], [b"2", b"3"]]
    assert set(disk.threads) == {threading.get_ident()}


def test_entries_that_exceed_one_write_are_split(disk: Disk, requests: ThreadPoolExecutor):
    commits = GroupCommit(disk.write, most=10, size=lambda entries: sum(map(len, entries)))
    disk.go.clear()
    waiting = [requests.submit(commits.append, [b"first"])]
    wait_for(lambda: disk.writes, "the first write")
    waiting += [requests.submit(commits.append, [b"%03d" % n, b"x"]) for n in range(8)]
    waiting.append(requests.submit(commits.append, [b"larger than one write may be"]))
    wait_for(lambda: commits._open.entries, "the others")
    disk.go.set()
    for request in waiting:
        request.result(10)
    assert len(disk.writes) >= 6
    assert sorted(len(write) // 2 for write in disk.writes if write[-1] == b"x")[-1] == 2
    assert [b"larger than one write may be"] in disk.writes
    assert sorted(x for write in disk.writes for x in write if x[:1] == b"0") == [b"%03d" % n for n in range(8)]


def share_a_write(commits: GroupCommit, disk: Disk, requests: ThreadPoolExecutor) -> tuple[Future, list[Future]]:
    """One request whose write is delayed, and ten more that arrived meanwhile."""
    disk.go.clear()
    first = requests.submit(commits.append, [b"first"])
    wait_for(lambda: disk.writes, "the first write")
    others = [requests.submit(commits.append, [b"%d" % n]) for n in range(10)]
    wait_for(lambda: len(commits._open.entries) == 10, "ten that wait")
    return first, others


def test_requests_that_arrive_during_a_write_share_the_next_one(commits, disk, requests):
    first, others = share_a_write(commits, disk, requests)
    assert not any(request.done() for request in [first, *others]), "none is through before its write is"
    disk.go.set()
    for request in [first, *others]:
        request.result(10)
    assert len(disk.writes) == 2
    assert sorted(disk.writes[1]) == sorted(b"%d" % n for n in range(10))


def test_an_error_of_a_write_is_raised_in_the_requests_that_shared_it_and_in_no_other(commits, disk, requests):
    first, others = share_a_write(commits, disk, requests)
    disk.error = OSError("disk full")
    disk.go.set()
    first.result(10)
    for request in others:
        with pytest.raises(OSError, match="disk full"):
            request.result(10)
    disk.error = None
    commits.append([b"after"])
    assert disk.writes[-1] == [b"after"]


def test_under_heavy_load_every_entry_is_written_once(commits, disk, requests):
    entries = [b"%d" % n for n in range(5000)]
    list(requests.map(lambda entry: commits.append([entry]), entries))
    written = [entry for write in disk.writes for entry in write]
    assert len(written) == 5000
    assert set(written) == set(entries)
