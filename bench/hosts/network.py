"""Hosts on one machine: each is a network namespace with an address of its own, and all of them share a bridge.

The bridge is in a namespace too, and no link leads out of the test bed, so its traffic reaches no other address. The
names of everything begin with the id of the process that made it. A run first removes what runs that were killed left
behind. It needs root, iproute2, nsenter and unshare (util-linux), and a C compiler for the clocks.
"""

import ctypes
import os
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path

import psutil

from footfall.supervised_process import end_with_parent
from tests.support.running_system import ROOT, Place, kill_if_there, wait_for

PREFIX = "footfall-hosts-"
SUBNET = "10.77.0"
WIRE = "wire"  # the namespace of the bridge
OBSERVER = "observer"  # the host of the program that measures
NAMESPACES = Path("/run/netns")
CGROUPS = Path("/sys/fs/cgroup")
CPU_PERIOD = 100_000  # microseconds
TOOLS = {"ip": "iproute2", "nsenter": "util-linux", "unshare": "util-linux", "cc": "gcc libc6-dev"}
CLOCK_SOURCE = Path(__file__).with_name("clock.c")
# A host's commands run in its network, under its name, and in its control group.
ENTER = 'hostname "$0" && echo $$ > "$1" && shift && exec "$@"'
_CLONE_NEWNET = 0x40000000
_numbers = count(1)  # of the test beds of this process


class HostsError(Exception):
    """The test bed cannot be made here. The message says what is missing."""


class Host:
    """A namespace with a link to the bridge, a control group and a clock."""

    def __init__(self, name: str, address: str, bed: "Network") -> None:
        self.name = name
        self.address = address
        self.folder = bed.folder / name
        self.folder.mkdir()
        self._bed = bed
        self._clock = self.folder / "clock"
        self._clock.write_bytes(bytes(8))
        self._group = _cpu_cgroups() / f"{bed.prefix}{name}"
        self._group.mkdir()
        self._relay: subprocess.Popen[bytes] | None = None

    @property
    def place(self) -> Place:
        """Where the host's processes run."""
        enter = [*_inside(self._bed.namespace(self.name)), "unshare", "--uts", "sh", "-c", ENTER, self.name]
        clock = f"LD_PRELOAD={self._bed.clock}", f"CLOCK={self._clock}"
        return Place(self.address, (*enter, str(self._group / "cgroup.procs"), "env", *clock))

    def connect(self) -> None:
        """Gives the host its address, and plugs it into the bridge."""
        inner = self._bed.namespace(self.name)
        _ip("netns", "add", inner)
        _ip("link", "add", self.name, "netns", self._bed.wire, "type", "veth", "peer", "eth0", "netns", inner)
        _ip("-n", inner, "address", "add", f"{self.address}/24", "dev", "eth0")
        for device in ("lo", "eth0"):
            _ip("-n", inner, "link", "set", device, "up")
        _ip("-n", self._bed.wire, "link", "set", self.name, "up")
        self.mend()

    def cut_off(self) -> None:
        """From now on no packet reaches the host or leaves it. Its own processes notice nothing else."""
        self.mend()
        _ip("-n", self._bed.wire, "link", "set", self.name, "nomaster")

    def impair(self, delay: float, jitter: float, loss: float) -> None:
        """Delays each packet by `delay` to `delay` + `jitter` seconds, so that packets overtake each other, and drops
        the share `loss` of them. In both directions.
        """
        self.cut_off()
        wire, near, far = self._bed.wire, f"{self.name}-n", f"{self.name}-f"
        _ip("-n", wire, "link", "add", near, "type", "veth", "peer", far)
        _ip("-n", wire, "link", "set", far, "master", "bridge")
        for device in (near, far):
            _ip("-n", wire, "link", "set", device, "up")
        relay = [sys.executable, "-m", "bench.hosts.relay", self.name, near, f"{delay}", f"{jitter}", f"{loss}"]
        self._relay = subprocess.Popen(
            [*end_with_parent(signal.SIGKILL), *_inside(wire), *relay], cwd=ROOT, stdout=subprocess.PIPE
        )
        assert self._relay.stdout is not None
        self._relay.stdout.readline()  # it forwards packets now

    def mend(self) -> None:
        """Ends cut_off and impair."""
        if self._relay:
            self._relay.kill()
            self._relay.communicate()
            self._relay = None
            _ip("-n", self._bed.wire, "link", "delete", f"{self.name}-n")
        _ip("-n", self._bed.wire, "link", "set", self.name, "master", "bridge")

    def set_clock(self, seconds: float) -> None:
        """Sets the time of day of the host's processes, by the offset to this machine's. They see it at once."""
        with self._clock.open("r+b") as clock:
            clock.write(struct.pack("q", int(seconds * 1e9)))

    def limit_cpu(self, share: float | None) -> None:
        """`share`: of one core, None for no limit."""
        limit = int(share * CPU_PERIOD) if share else None
        if (self._group / "cpu.max").exists():
            (self._group / "cpu.max").write_text(f"{limit or 'max'} {CPU_PERIOD}")
        else:
            (self._group / "cpu.cfs_quota_us").write_text(f"{limit or -1}")

    def throttled(self) -> tuple[int, int]:
        """How many periods of 0.1 s had work so far while there was a limit, and in how many the limit was reached."""
        stat = dict(line.split() for line in (self._group / "cpu.stat").read_text().splitlines())
        return int(stat["nr_periods"]), int(stat["nr_throttled"])

    def processes(self) -> list[psutil.Process]:
        found = []
        for pid in (self._group / "cgroup.procs").read_text().split():
            with suppress(psutil.NoSuchProcess):
                found.append(psutil.Process(int(pid)))
        return found


class Network:
    """The bridge and its hosts. Use it as a context: at its end, processes, namespaces and files are removed."""

    def __init__(self, *names: str) -> None:
        check_machine()
        remove_left_behind()
        self.prefix = f"{PREFIX}{os.getpid()}-{next(_numbers)}-"
        self.folder = Path(tempfile.mkdtemp(prefix=self.prefix))
        self.clock = self.folder / "clock.so"  # what processes load for the clock of their host
        self.hosts: dict[str, Host] = {}
        self._names = (OBSERVER, *names)

    @property
    def wire(self) -> str:
        return self.namespace(WIRE)

    def namespace(self, name: str) -> str:
        return f"{self.prefix}{name}"

    def __enter__(self) -> "Network":
        try:
            subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", self.clock, CLOCK_SOURCE, "-ldl"], check=True)
            _ip("netns", "add", self.wire)
            _ip("-n", self.wire, "link", "add", "bridge", "type", "bridge")
            _ip("-n", self.wire, "link", "set", "bridge", "up")
            for number, name in enumerate(self._names, start=10):
                self.hosts[name] = Host(name, f"{SUBNET}.{number}", self)
                self.hosts[name].connect()
        except BaseException:
            _remove(self.prefix)
            raise
        return self

    def __exit__(self, *_: object) -> None:
        _remove(self.prefix)

    @contextmanager
    def observing(self) -> Iterator[None]:
        """This thread, and those that it starts, are on the host OBSERVER during the block."""
        with Path("/proc/thread-self/ns/net").open() as before:
            _set_namespace(NAMESPACES / self.namespace(OBSERVER))
            try:
                yield
            finally:
                _set_namespace(Path(f"/proc/self/fd/{before.fileno()}"))


def check_machine() -> None:
    """Raises HostsError if this machine cannot have a test bed."""
    if os.geteuid():
        raise HostsError("network namespaces need root")
    for tool, package in TOOLS.items():
        if not shutil.which(tool):
            raise HostsError(f"{tool} is missing: apt-get install {package}")
    if not (CGROUPS / "cpu").is_dir() and "cpu" not in _read(CGROUPS / "cgroup.subtree_control"):
        raise HostsError("there are no control groups that limit CPU")


def remove_left_behind() -> None:
    """Removes the test beds of runs that were killed."""
    places = [*NAMESPACES.glob(f"{PREFIX}*"), *Path(tempfile.gettempdir()).glob(f"{PREFIX}*")]
    runs = {path.name.removeprefix(PREFIX).partition("-")[0] for path in [*places, *_cpu_cgroups().glob(f"{PREFIX}*")]}
    for pid in runs:
        if pid.isdecimal() and not psutil.pid_exists(int(pid)):
            _remove(f"{PREFIX}{pid}-")


def _remove(prefix: str) -> None:
    """Removes all that begins with `prefix`, whatever of it exists."""
    groups = [*_cpu_cgroups().glob(f"{prefix}*")]
    processes = [int(pid) for group in groups for pid in (group / "cgroup.procs").read_text().split()]
    namespaces = [path.name for path in NAMESPACES.glob(f"{prefix}*")]
    for name in namespaces:
        listed = subprocess.run(["ip", "netns", "pids", name], capture_output=True, text=True, check=False).stdout
        processes += [int(pid) for pid in listed.split() if int(pid) != os.getpid()]
    for pid in processes:
        with suppress(psutil.NoSuchProcess):
            kill_if_there(psutil.Process(pid))
    for group in groups:
        wait_for(lambda group=group: not (group / "cgroup.procs").read_text().strip(), f"the end of {group.name}")
        group.rmdir()
    for name in namespaces:
        _ip("netns", "delete", name)
    for folder in Path(tempfile.gettempdir()).glob(f"{prefix}*"):
        if folder.lstat().st_uid == os.geteuid():
            shutil.rmtree(folder)


def _inside(namespace: str) -> list[str]:
    return ["nsenter", f"--net={NAMESPACES / namespace}"]


def _ip(*words: str) -> None:
    ran = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    if ran.returncode:
        raise HostsError(f"ip {' '.join(words)}: {ran.stderr.strip()}")


def _set_namespace(path: Path) -> None:
    """For this thread."""
    library = ctypes.CDLL(None, use_errno=True)
    with path.open() as namespace:
        if library.setns(namespace.fileno(), _CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), f"cannot enter {path}")


def _cpu_cgroups() -> Path:
    """Where groups with a limit of CPU are made: version 1, or version 2."""
    return CGROUPS / "cpu" if (CGROUPS / "cpu").is_dir() else CGROUPS


def _read(file: Path) -> str:
    return file.read_text() if file.exists() else ""
