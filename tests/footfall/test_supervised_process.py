"""The supervisor with cheap children: real processes that are killed, fork, ignore signals, freeze and write."""

import asyncio
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from footfall.supervised_process import LONGEST_LINE, BackOff, LineSplitter, SupervisedProcess
from footfall.supervisor import AGAIN, Supervisor

PROCFILE = (Path(__file__).parents[2] / "Procfile").read_text()
SERVERS = ["redis", "mongodb"]
APPS = [line.partition(":")[0] for line in PROCFILE.splitlines()]
AT_ONCE = BackOff(first=0.001, longest=0.001)
SLEEP = ["sleep", "1000"]


def shell(script: str) -> list[str]:
    return ["sh", "-c", script]


def python(script: str) -> list[str]:
    return [sys.executable, "-S", "-c", script]


async def until(condition: Callable[[], object], limit: float = 20) -> None:
    async with asyncio.timeout(limit):
        while not condition():
            await asyncio.sleep(0.001)


def supervise(
    scenario: Callable[[Supervisor], Awaitable[None]],
    apps: list[SupervisedProcess],
    servers: list[SupervisedProcess] | None = None,
) -> float:
    """Runs `scenario` beside the processes, then sends this process SIGTERM. Returns how many seconds the stop took."""
    supervisor = Supervisor(servers or [], apps)
    told_at = 0.0

    async def bring_up() -> None:
        nonlocal told_at
        supervisor.start([*supervisor.servers, *supervisor.apps])
        await scenario(supervisor)
        told_at = time.monotonic()
        os.kill(os.getpid(), signal.SIGTERM)

    asyncio.run(supervisor.run(bring_up))
    return time.monotonic() - told_at


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@contextmanager
def leaving_no_child() -> Iterator[None]:
    """Checks that no child is left, apart from the servers of other tests, which are children of this process too."""
    others = set(psutil.Process().children())
    yield
    assert set(psutil.Process().children()) <= others


def is_gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def kill_each_150_times() -> tuple[list[int], set[tuple[int, int]], int]:
    """The deaths of each process, the numbers of descriptors and threads before and after, and the last children."""
    servers = [SupervisedProcess(name, SLEEP, back_off=AT_ONCE) for name in SERVERS]
    apps = [SupervisedProcess(name, SLEEP, back_off=AT_ONCE) for name in APPS]
    seen: set[tuple[int, int]] = set()

    async def kill_150_times(process: SupervisedProcess) -> None:
        for death in range(150):
            await until(lambda: process.pid)
            assert process.deaths == death
            os.kill(process.pid, signal.SIGKILL)
            await until(lambda death=death: process.deaths > death)

    async def scenario(supervisor: Supervisor) -> None:
        await until(lambda: all(process.pid for process in servers + apps))
        seen.add((descriptors(), threading.active_count()))
        await asyncio.gather(*map(kill_150_times, servers + apps))
        await until(lambda: all(process.pid for process in servers + apps))
        seen.add((descriptors(), threading.active_count()))

    supervise(scenario, apps, servers)
    return [process.deaths for process in servers + apps], seen, len(psutil.Process().children())


def test_each_process_is_started_again_after_each_of_150_deaths_and_nothing_leaks():
    # A new process, because other tests leave threads and descriptors in this one.
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as alone:
        deaths, seen, children = alone.submit(kill_each_150_times).result()
    assert deaths == [150] * 7
    assert len(seen) == 1, "as many descriptors and threads as before"
    assert children == 0


def test_a_death_is_one_line_with_its_reason_and_the_time_of_the_restart(capfd: pytest.CaptureFixture[str]):
    exits = SupervisedProcess("exits", shell("exit 3"), back_off=BackOff(first=0.01, longest=0.03))
    killed = SupervisedProcess("killed", shell("kill -KILL $$"), back_off=BackOff(first=0.02))
    absent = SupervisedProcess("absent", SLEEP, back_off=BackOff(first=0.03))
    absent.command = ["/nowhere/at/all"]

    async def scenario(supervisor: Supervisor) -> None:
        await until(lambda: exits.deaths >= 4 and killed.deaths and absent.deaths)

    supervise(scenario, [exits, killed, absent])
    lines = capfd.readouterr().out.splitlines()
    assert [line for line in lines if "exits" in line][:4] == [
        f"run      | exits exited with code 3; it is started again in {pause} s" for pause in (0.01, 0.02, 0.03, 0.03)
    ]
    assert "run      | killed was killed by SIGKILL; it is started again in 0.02 s" in lines
    assert any(line.startswith("run      | absent cannot be started ([Errno 2] No such file") for line in lines)


def test_a_process_that_lived_for_a_while_is_restarted_without_back_off(capfd: pytest.CaptureFixture[str]):
    process = SupervisedProcess("app", shell("sleep 0.2"), back_off=BackOff(first=0.01, reset=0.1))

    async def scenario(supervisor: Supervisor) -> None:
        await until(lambda: process.deaths >= 4)

    supervise(scenario, [process])
    assert capfd.readouterr().out.count("in 0.01 s") == 4


def test_restarts_have_no_limit():
    back_off = BackOff(first=0.1, longest=10.0)
    assert [back_off.pause(n) for n in (0, 1, 2, 6, 7, 100_000)] == [0.1, 0.2, 0.4, 6.4, 10.0, 10.0]


def test_a_process_that_ignores_sigterm_is_killed_after_its_grace_period(capfd: pytest.CaptureFixture[str]):
    process = SupervisedProcess("app", shell("trap '' TERM; echo deaf; while :; do sleep 0.01; done"), grace=0.3)

    async def scenario(supervisor: Supervisor) -> None:
        await until(lambda: "app      | deaf" in capfd.readouterr().out)

    with leaving_no_child():
        assert 0.3 <= supervise(scenario, [process]) < 5
    assert "app did not stop within 0.3 s of SIGTERM; killing it" in capfd.readouterr().out


def test_ctrl_c_again_kills_what_has_not_stopped_and_servers_still_stop_in_order(capfd: pytest.CaptureFixture[str]):
    app = SupervisedProcess("app", shell("trap '' TERM; echo deaf; while :; do sleep 0.01; done"))
    server = SupervisedProcess("server", shell("trap 'echo orderly; exit' TERM; echo up; while :; do sleep 0.01; done"))
    output = ""

    async def scenario(supervisor: Supervisor) -> None:
        nonlocal output

        def are_up() -> bool:
            nonlocal output
            output += capfd.readouterr().out
            return "deaf" in output and "up" in output

        await until(are_up)
        asyncio.get_running_loop().call_later(AGAIN + 0.2, os.kill, os.getpid(), signal.SIGINT)

    with leaving_no_child():
        assert supervise(scenario, [app], [server]) < 10
    assert "server   | orderly" in output + capfd.readouterr().out


def test_children_of_a_process_end_with_it_when_it_dies_and_when_it_stops(tmp_path: Path):
    noted = tmp_path / "children"
    process = SupervisedProcess("app", shell(f"sleep 1000 & echo $! >> {noted}; wait"), back_off=AT_ONCE)

    def children() -> list[int]:
        return [int(line) for line in noted.read_text().split()] if noted.exists() else []

    async def scenario(supervisor: Supervisor) -> None:
        await until(lambda: len(children()) == 1)
        os.kill(process.pid, signal.SIGKILL)
        await until(lambda: len(children()) == 2)
        await until(lambda: is_gone(children()[0]))

    supervise(scenario, [process])
    assert len(children()) == 2
    deadline = time.monotonic() + 5
    while not all(map(is_gone, children())):
        assert time.monotonic() < deadline


def test_a_grandchild_that_left_the_group_delays_no_restart_and_holds_no_descriptor(tmp_path: Path):
    noted = tmp_path / "grandchildren"
    process = SupervisedProcess("app", shell(f"setsid sleep 1000 & echo $! >> {noted}; wait"), back_off=AT_ONCE)

    async def scenario(supervisor: Supervisor) -> None:
        await until(lambda: process.pid and noted.exists())
        before = descriptors()
        for death in range(5):
            await until(lambda death=death: process.pid and len(noted.read_text().split()) > death)
            os.kill(process.pid, signal.SIGKILL)
            await until(lambda death=death: process.deaths > death)
        await until(lambda: process.pid)
        assert descriptors() == before

    try:
        supervise(scenario, [process])
    finally:
        for pid in map(int, noted.read_text().split()):
            if psutil.pid_exists(pid):
                os.kill(pid, signal.SIGKILL)


def test_a_frozen_process_stops(capfd: pytest.CaptureFixture[str]):
    process = SupervisedProcess("app", SLEEP)

    async def scenario(supervisor: Supervisor) -> None:
        await until(lambda: process.pid and psutil.Process(process.pid).name() == "sleep")
        os.kill(process.pid, signal.SIGSTOP)
        await until(lambda: psutil.Process(process.pid).status() == psutil.STATUS_STOPPED)

    assert supervise(scenario, [process]) < 5


def test_an_unexpected_error_stops_everything_and_is_raised():
    process = SupervisedProcess("app", SLEEP)

    async def scenario(supervisor: Supervisor) -> None:
        await until(lambda: process.pid)
        raise ZeroDivisionError

    with leaving_no_child(), pytest.raises(ZeroDivisionError):
        supervise(scenario, [process])
    assert process.pid is None


def test_every_line_of_output_has_the_name_of_its_process_even_the_last_line_of_a_process_that_dies(
    capfd: pytest.CaptureFixture[str],
):
    script = r"import os; os.write(1, b'one\ntw'); os.write(2, b'o\nbad \xff\nlast'); os.kill(os.getpid(), 9)"
    process = SupervisedProcess("app", python(script))

    async def scenario(supervisor: Supervisor) -> None:
        await until(lambda: process.deaths)

    supervise(scenario, [process])
    lines = capfd.readouterr().out.splitlines()
    assert [line for line in lines if line.startswith("app")] == [
        f"app      | {line}" for line in ("one", "two", "bad �", "last")
    ]


@pytest.mark.parametrize(
    ("pieces", "lines"),
    [
        ([b"a\nb\n"], ["a", "b"]),
        ([b"a", b"b", b"\nc"], ["ab", "c"]),
        ([b"\n\n"], ["", ""]),
        ([b"windows\r\n"], ["windows"]),
        (["ä\n".encode()[:1], "ä\n".encode()[1:]], ["ä"]),
        ([b"\xff\xfe\n"], ["��"]),
        ([b"x" * LONGEST_LINE + b"\n"], ["x" * LONGEST_LINE]),
        ([b"x" * (LONGEST_LINE + 1)], ["x" * LONGEST_LINE, "x"]),
        ([b"x" * (2 * LONGEST_LINE) + b"\ny\n"], ["x" * LONGEST_LINE, "x" * LONGEST_LINE, "y"]),
        ([b"x" * (LONGEST_LINE - 1) + "ä".encode()], ["x" * (LONGEST_LINE - 1), "ä"]),
        ([b"x" * (LONGEST_LINE - 2) + "🎉".encode()], ["x" * (LONGEST_LINE - 2), "🎉"]),
        ([b"\x80" * (LONGEST_LINE + 5)], ["�" * (LONGEST_LINE - 3), "�" * 8]),
        ([], []),
    ],
)
def test_output_is_cut_into_lines_of_bounded_length(pieces: list[bytes], lines: list[str]):
    splitter = LineSplitter()
    found = [line for piece in pieces for line in splitter.feed(piece)]
    assert [*found, *splitter.close()] == lines
