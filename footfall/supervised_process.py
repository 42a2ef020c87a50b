"""A process that is kept running: its output, its restarts, its end.

`run` starts the process, prefixes each line of its output with its name, and restarts the process whenever it ends,
until `stop`. The process leads its own process group. When it ends, the rest of the group is killed, so no child
outlives it. A process that cannot be started raises nothing: that counts as a death.

There is no thread per process: the caller's event loop reads the pipe, and calls `reap` on SIGCHLD.
"""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from subprocess import DEVNULL
from typing import IO

from footfall.folder_lock import FolderLock
from footfall.start_error import StartError

STOP_GRACE = 60.0  # seconds from SIGTERM to SIGKILL; a warm shutdown of a Celery worker under load took 36 s
LONGEST_LINE = 65_536  # bytes; a longer line is split
_PIECE = 65_536  # bytes per read
LAST_PIECES = 16  # read after the process has ended; a pipe holds at most 1 MiB


@dataclass(frozen=True)
class BackOff:
    """Seconds to wait before a restart: `first`, then twice as long each time, up to `longest`.

    A process that lived for `reset` seconds starts over with `first`.
    """

    first: float = 0.1
    longest: float = 10.0
    reset: float = 10.0

    def pause(self, short_lives: int) -> float:
        """Seconds to wait. `short_lives`: how many times in a row the process died within `reset` seconds."""
        return min(self.first * 2.0 ** min(short_lives, 32), self.longest)


def write_line(name: str, line: str) -> None:
    """Writes one line of the process `name` to stdout."""
    write(f"{name:8s} | {line}\n")


def write(text: str) -> None:
    """Writes to stdout. Never fails, because a closed terminal must not end the supervisor."""
    data = text.encode(errors="backslashreplace")
    with suppress(OSError):
        while data:
            data = data[os.write(1, data) :]


class LineSplitter:
    """Splits output into lines. A line has at most LONGEST_LINE bytes of output."""

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, data: bytes) -> Iterator[str]:
        self._rest += data
        while (end := self._rest.find(b"\n", 0, LONGEST_LINE + 1)) >= 0 or len(self._rest) > LONGEST_LINE:
            yield self._take(end if end >= 0 else self._cut(), has_newline=end >= 0)

    def close(self) -> Iterator[str]:
        """The last line, if it has no newline."""
        if self._rest:
            yield self._take(len(self._rest), has_newline=False)

    def _cut(self) -> int:
        """The end of the last complete UTF-8 character within LONGEST_LINE bytes."""
        end = LONGEST_LINE
        while end > LONGEST_LINE - 3 and self._rest[end] & 0xC0 == 0x80:
            end -= 1
        return end

    def _take(self, end: int, *, has_newline: bool) -> str:
        line = self._rest[:end].decode(errors="replace")
        del self._rest[: end + has_newline]
        return line.removesuffix("\r")


class SupervisedProcess:
    """A process and its restarts.

    `parent_death_signal`: the signal that the kernel sends the process when the supervisor is killed (Linux,
    `setpriv`). `lock`: the lock of the process's folder, which the process holds as long as it lives. `explain`:
    returns why the process ended, for a process that does not write that to its output.
    """

    def __init__(
        self,
        name: str,
        command: list[str],
        *,
        parent_death_signal: signal.Signals = signal.SIGKILL,
        lock: FolderLock | None = None,
        explain: Callable[[], str] | None = None,
        grace: float = STOP_GRACE,
        back_off: BackOff = BackOff(),
    ) -> None:
        self.name = name
        self.command = [*end_with_parent(parent_death_signal), *command]
        self.grace = grace
        self.deaths = 0
        self.last_death = ""  # how the process last ended, such as "exited with code 1: port 1 is in use"
        self.died = asyncio.Event()  # set by each death
        self._lock = lock
        self._explain = explain
        self._back_off = back_off
        self._process: subprocess.Popen[bytes] | None = None
        self._ended = asyncio.Event()
        self._told_to_stop = asyncio.Event()

    @property
    def pid(self) -> int | None:
        """None while the process does not run."""
        return self._process.pid if self._process else None

    async def run(self) -> None:
        """Keeps the process running. Returns after `stop`, when the process and its group have ended."""
        short_lives = 0
        while not self._told_to_stop.is_set():
            started = time.monotonic()
            how = await self._run_once()
            if self._told_to_stop.is_set():
                return
            short_lives = 0 if time.monotonic() - started >= self._back_off.reset else short_lives
            pause = self._back_off.pause(short_lives)
            short_lives += 1
            self._note_death(how)
            write_line("run", f"{self.name} {how}; it is started again in {pause:g} s")
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._told_to_stop.wait()

    async def stop(self) -> None:
        """Asks the process to end. Kills it and its group if it still runs after `grace` seconds."""
        self._told_to_stop.set()
        if self._process is None:
            return
        # Not the group, because a Celery worker ends its own children in order.
        os.kill(self._process.pid, signal.SIGTERM)
        os.kill(self._process.pid, signal.SIGCONT)  # a frozen process cannot end
        try:
            async with asyncio.timeout(self.grace):
                await self._ended.wait()
        except TimeoutError:
            write_line("run", f"{self.name} did not stop within {self.grace:g} s of SIGTERM; killing it")
            self.kill()

    def kill(self) -> None:
        """Kills the process and its group at once."""
        if self._process:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def reap(self) -> None:
        """To be called after each SIGCHLD.

        Leaves the zombie, because its id is its group's, and the group is killed first.
        """
        if self._process and os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            self._ended.set()

    def _note_death(self, how: str) -> None:
        self.deaths += 1
        self.last_death = how
        self.died.set()

    async def _run_once(self) -> str:
        """Runs the process until it ends. Returns how it ended."""
        self._ended.clear()
        try:
            process = subprocess.Popen(
                self.command,
                stdin=DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                pass_fds=[self._lock.fileno()] if self._lock else [],
            )
        except OSError as error:
            return f"cannot be started ({error})"
        self._process = process
        if self._lock:
            self._lock.note_holder(process.pid)
        pipe: IO[bytes] = process.stdout  # type: ignore[assignment]
        with pipe as output:
            os.set_blocking(output.fileno(), False)
            loop, lines = asyncio.get_running_loop(), LineSplitter()
            loop.add_reader(output, self._forward, output.fileno(), lines)
            try:
                await self._ended.wait()
            finally:
                self.kill()
                self._process = None
                loop.remove_reader(output)
            self._drain(output.fileno(), lines)
        how = describe_end(process.wait())
        return f"{how}: {self._explain()}" if self._explain and process.returncode != -signal.SIGKILL else how

    def _forward(self, output: int, lines: LineSplitter) -> bool:
        """Writes the lines that have arrived. Returns whether more may come."""
        try:
            data = os.read(output, _PIECE)
        except BlockingIOError:
            return False
        for line in lines.feed(data) if data else lines.close():
            write_line(self.name, line)
        if not data:
            asyncio.get_running_loop().remove_reader(output)
        return bool(data)

    def _drain(self, output: int, lines: LineSplitter) -> None:
        """Writes the last lines.

        Does not wait for the end of the pipe: a process that left the group may hold it open for ever.
        """
        for _ in range(LAST_PIECES):
            if not self._forward(output, lines):
                break
        for line in lines.close():
            write_line(self.name, line)


def end_with_parent(number: signal.Signals) -> list[str]:
    """The prefix of a command that makes the kernel end it with this process.

    Empty if the system does not support that.
    """
    return ["setpriv", "--pdeathsig", number.name.removeprefix("SIG")] if can_end_with_parent() else []


def run_module(name: str, *words: str) -> str:
    """Runs `python -m name words`, and returns its output. Raises StartError with its last line on stderr."""
    command = [*end_with_parent(signal.SIGKILL), sys.executable, "-m", name, *words]
    ran = subprocess.run(command, check=False, stdin=DEVNULL, capture_output=True, text=True)
    if ran.returncode:
        raise StartError(ran.stderr.strip().rpartition("\n")[2] or f"{name} {describe_end(ran.returncode)}")
    return ran.stdout.strip()


def module_succeeds(name: str, *words: str) -> bool:
    """Whether `python -m name words` ends with 0."""
    try:
        run_module(name, *words)
    except StartError:
        return False
    return True


@cache
def can_end_with_parent() -> bool:
    """Whether util-linux's setpriv is installed. busybox's setpriv lacks the option."""
    try:
        return subprocess.run(["setpriv", "--pdeathsig", "TERM", "true"], check=False, stderr=DEVNULL).returncode == 0
    except OSError:
        return False


def describe_end(returncode: int) -> str:
    """How a process ended, from subprocess's returncode, which is negative for a signal."""
    if returncode >= 0:
        return f"exited with code {returncode}"
    with suppress(ValueError):
        return f"was killed by {signal.Signals(-returncode).name}"
    return f"was killed by signal {-returncode}"
