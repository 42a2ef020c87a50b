"""`make hosts`: Footfall on many hosts, while links, clocks, hosts and stores fail; then every event is counted.

The hosts are network namespaces of this machine (bench/hosts/network.py): two with ingestion behind a balancer, up to
three with workers, two that report, Redis with a replica and three sentinels, and MongoDB with three members. Producers
send events through the balancer, and repeat each with its event_id until it is acknowledged. Meanwhile ROUNDS times, in
an order that the seed fixes: hosts are cut off, packets are late, lost and overtaken, clocks jump, worker hosts come
and go, ingestion rolls to another checkout, and Redis and MongoDB fail over.

Then every acknowledged event must be stored once, the ledger must balance, and both hosts that report must say what the
oracle of the tests says. Afterwards it measures what an event costs, and how fast one, two and three worker hosts store
BACKLOG events, each with SHARE of a core. Prints tables, and writes the measurements to build/hosts.json for
`make simulate`. Exits with 1 if anything is wrong, and with 2 if this machine cannot run it.

ROUNDS (1), SEED (1), BACKLOG (100000; 0: it is not measured) and SHARE (0.1) in the environment change the run. FROM:
the checkout of another version, from which ingestion rolls to this one.
"""

import os
import random
import signal
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import psutil

from bench.chaos import Tally, drain, outcome, producing
from bench.hosts.answers import wrong_answers
from bench.hosts.deployment import HOSTS, WORKERS, Deployment
from bench.hosts.faults import FAULTS, roll_ingestion
from bench.hosts.network import HostsError, Network
from bench.hosts.scaling import GROUPS, Throughput, measure
from bench.hosts.service import measure_times, warm_up
from bench.ingestion import machine, print_table
from bench.post_mortem import post_mortem
from bench.simulate import MEASUREMENTS, Measurements, Rate, Times
from tests.support.running_system import ROOT, wait_for


def main() -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the test bed is removed
    rounds, seed = int(os.environ.get("ROUNDS", "1")), int(os.environ.get("SEED", "1"))
    backlog, share = int(os.environ.get("BACKLOG", "100000")), float(os.environ.get("SHARE", "0.1"))
    source = Path(os.environ.get("FROM") or ROOT).resolve()
    print(
        f"# make hosts ROUNDS={rounds} SEED={seed}, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {machine()}\n", flush=True
    )
    try:
        with Network(*HOSTS) as network, network.observing(), Deployment(network, source) as deployment:
            is_sound = run(deployment, rounds, seed)
            if backlog:
                measure_all(deployment, share, backlog)
    except HostsError as error:
        print(f"footfall: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(0 if is_sound else 1)


def run(deployment: Deployment, rounds: int, seed: int) -> bool:
    """Whether nothing was lost, doubled or misread."""
    tally = Tally(site="hosts")
    try:
        cause_faults(deployment, tally, rounds, random.Random(seed))
        drain(deployment, tally)
        wrong = wrong_answers(deployment, tally)
    except AssertionError:
        for name in sorted(deployment.running):
            print(f"\n=== {name} ===\n{post_mortem(deployment.apps[name])}")
        raise
    print_table("what happened", {name: str(count) for name, count in sorted(tally.faults.items())})
    answers = {
        "longest time without a 200": f"{tally.shut:.1f} s",
        "both hosts that report": "; ".join(wrong) or "equal to the oracle",
    }
    print_table("events", outcome(tally) | answers)
    return tally.is_sound and not wrong


def cause_faults(deployment: Deployment, tally: Tally, rounds: int, chance: random.Random) -> None:
    """Causes each fault once in a round. After each, events must be acknowledged again."""
    start = time.monotonic()
    with producing(deployment, tally):
        wait_for(lambda: len(tally.acknowledged) > 300, "the first events")
        for _ in range(rounds):
            faults = [*FAULTS, roll_ingestion(ROOT)]
            chance.shuffle(faults)
            for fault in faults:
                what, acknowledged = fault(deployment, chance), len(tally.acknowledged)
                wait_for(lambda n=acknowledged: len(tally.acknowledged) > n + 100, f"events after: {what}", 60)
                tally.faults[what] += 1
                print(f"{time.monotonic() - start:6.1f} s  {what}", file=sys.stderr, flush=True)


def measure_all(deployment: Deployment, share: float, backlog: int) -> None:
    """What an event costs on one worker host, then the rates of one, two and three."""
    when = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
    deployment.stop(*[name for name in WORKERS[1:] if name in deployment.running])
    described, hits = measure_times(deployment, backlog)
    print_times({"described events": described, "hits of browsers": hits})
    found = []
    for hosts in range(1, len(WORKERS) + 1):
        deployment.start(*[name for name in WORKERS[:hosts] if name not in deployment.running])
        warm_up(deployment, f"first {hosts}", as_hits=False)
        found.append(measure(deployment, hosts, share, backlog))
    print_throughput(found, share, backlog)
    rates = [Rate(each.hosts, each.rate, each.cores["machine"]) for each in found]
    measured = Measurements(when, psutil.cpu_count() or 1, share, described, hits, rates)
    MEASUREMENTS.parent.mkdir(exist_ok=True)
    MEASUREMENTS.write_bytes(msgspec.json.encode(measured))


def print_times(times: dict[str, Times]) -> None:
    rows = {
        name: f"{1e6 * each.worker:.1f}, {1e6 * each.redis:.1f}, {1e6 * each.mongodb:.1f}; {1e3 * each.commit:.1f} ms;"
        f" {each.idle:.3f}"
        for name, each in times.items()
    }
    title = "one worker host, CPU, µs an event: worker host, master of Redis, primary of MongoDB"
    print_table(f"{title}; wait of a write of 1,000; cores of a worker host without events", rows)


def print_throughput(found: list[Throughput], share: float, backlog: int) -> None:
    rows = {}
    for each in found:
        used = ", ".join(f"{name} {each.cores[name]:.2f}" for name in (*GROUPS, "machine"))
        rows[f"{each.hosts}"] = f"{each.rate:,.0f}, {each.rate / found[0].rate:.2f}, {each.saturated(share)}; {used}"
    title = f"worker hosts with {share:.0%} of a core each, {backlog:,} waiting events"
    print_table(f"{title}: events/s, times one host, what is used up; cores used", rows)


if __name__ == "__main__":
    main()
