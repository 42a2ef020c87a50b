"""The test bed of `make hosts` (bench/hosts): links that can be cut and impaired, clocks, CPU limits, and its end."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bench.hosts.network import NAMESPACES, HostsError, Network, check_machine
from tests.support.running_system import ROOT, wait_for

MAKE_AND_WAIT = """
from bench.hosts.network import Network
with Network("one") as network:
    print(network.wire, network.folder, flush=True)
    input()
"""


@pytest.fixture(scope="module")
def network() -> Iterator[Network]:
    try:
        check_machine()
    except HostsError as error:
        pytest.skip(str(error))
    with Network("one", "two") as network:
        yield network


def on(network: Network, name: str, *command: str) -> str:
    """What a command prints that runs on a host. "" if it fails."""
    words = [*network.hosts[name].place.words, *command]
    return subprocess.run(words, capture_output=True, text=True, check=False, timeout=30).stdout


def round_trip(network: Network) -> float | None:
    """Seconds from one host to the other and back. None if there is no answer."""
    ask = (
        "import socket, time; start = time.monotonic();"
        f"s = socket.create_connection(('{network.hosts['two'].address}', 80), 1);"
        "s.sendall(b'x' * 100_000); s.shutdown(1);"
        "assert len(b''.join(iter(lambda: s.recv(65536), b''))) == 100_000; print(time.monotonic() - start)"
    )
    return float(found) if (found := on(network, "one", sys.executable, "-c", ask)) else None


@pytest.fixture
def _echo(network: Network) -> Iterator[None]:
    """The second host sends back what it receives."""
    answer = (
        "import socket; server = socket.create_server(('', 80))\n"
        "while True:\n"
        "    c, _ = server.accept()\n"
        "    c.sendall(b''.join(iter(lambda: c.recv(65536), b''))); c.close()"
    )
    words = [*network.hosts["two"].place.words, sys.executable, "-c", answer]
    with subprocess.Popen(words) as process:
        try:
            wait_for(lambda: round_trip(network), "the second host")
            yield
        finally:
            process.kill()


@pytest.mark.usefixtures("_echo")
def test_a_link_can_be_cut_impaired_and_mended(network: Network):
    host = network.hosts["two"]
    assert round_trip(network) is not None
    host.cut_off()
    assert round_trip(network) is None
    host.impair(delay=0.1, jitter=0.05, loss=0)
    late = round_trip(network)
    assert late is not None
    assert late > 0.4, "two round trips at least"
    host.impair(delay=0, jitter=0, loss=1)
    assert round_trip(network) is None
    host.mend()
    assert round_trip(network) is not None


def test_late_packets_overtake_each_other(network: Network):
    host, count = network.hosts["two"], 40
    receive = (
        "import socket; s = socket.socket(type=socket.SOCK_DGRAM); s.bind(('', 81)); s.settimeout(20);"
        f"print('ready', flush=True); print(*(s.recv(9)[0] for _ in range({count})))"
    )
    send = (
        "import socket; s = socket.socket(type=socket.SOCK_DGRAM);"
        f"[s.sendto(bytes([n]), ('{host.address}', 81)) for n in range({count})]; print('sent')"
    )
    host.impair(delay=0, jitter=0.1, loss=0)
    words = [*host.place.words, sys.executable, "-c", receive]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        assert on(network, "one", sys.executable, "-c", send) == "sent\n"
        numbers = [int(n) for n in process.stdout.read().split()]
    host.mend()
    assert sorted(numbers) == [*range(count)]
    assert numbers != sorted(numbers)


def test_no_host_reaches_an_address_outside_of_the_test_bed(network: Network):
    assert on(network, "one", "ip", "-o", "route").split()[:1] == ["10.77.0.0/24"]
    assert on(network, "one", "ip", "route", "get", "192.0.2.1") == ""


def test_each_host_has_its_own_name_and_clock(network: Network):
    ask = "import socket, time; print(socket.gethostname(), time.time())"
    network.hosts["one"].set_clock(-7.5)
    for name, skew in (("one", -7.5), ("two", 0)):
        hostname, seconds = on(network, name, sys.executable, "-c", ask).split()
        assert hostname == name
        assert abs(float(seconds) - skew - datetime.now(UTC).timestamp()) < 5


def test_a_host_uses_no_more_than_its_share_of_a_core(network: Network):
    host = network.hosts["one"]
    host.limit_cpu(0.1)
    burn = "import time\nend = time.monotonic() + 2\nwhile time.monotonic() < end: pass\nprint(time.process_time())"
    assert float(on(network, "one", sys.executable, "-c", burn)) < 0.6
    periods, reached = host.throttled()
    assert reached > 0.5 * periods > 0
    host.limit_cpu(None)


@pytest.mark.usefixtures("network")
def test_what_a_killed_run_left_behind_is_removed_by_the_next():
    process = subprocess.Popen(
        [sys.executable, "-c", MAKE_AND_WAIT], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    wire, folder = process.stdout.readline().split()
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert (NAMESPACES / wire).exists()
    assert Path(folder).exists()
    with Network("one"):
        assert not (NAMESPACES / wire).exists()
        assert not Path(folder).exists()
