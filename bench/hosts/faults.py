"""What happens to the hosts under load: links fail and slow down, clocks jump, hosts come and go, stores fail over."""

import random
import time
from collections.abc import Callable
from pathlib import Path

from bench.hosts.deployment import BALANCER, INGESTION, MONGODB, REDIS, WORKERS, Deployment
from tests.support.running_system import wait_for

CUT = (1.0, 6.0)  # seconds
IMPAIRED = (2.0, 6.0)  # seconds
DELAY, JITTER, LOSS = (0.005, 0.05), (0.0, 0.1), (0.0, 0.1)  # seconds, seconds, share of the packets
SKEW = 10.0  # seconds by which a clock is wrong at most
FAILOVER = 60.0  # seconds until another master or primary is there, and until all members follow it

Fault = Callable[[Deployment, random.Random], str]


def cut_off_an_app(deployment: Deployment, chance: random.Random) -> str:
    return _cut_off(deployment, chance, chance.choice(sorted(deployment.running)))


def cut_off_a_replica(deployment: Deployment, chance: random.Random) -> str:
    """A cut that is shorter than what makes the sentinels or the other members act, or longer."""
    masters = {_redis_master(deployment), _mongodb_primary(deployment)}
    found = _cut_off(deployment, chance, chance.choice([x for x in (*REDIS, *MONGODB) if x not in masters]))
    wait_for(deployment.is_whole, "stores that are whole", FAILOVER)
    return found


def impair_links(deployment: Deployment, chance: random.Random) -> str:
    """Of an app host, of the balancer, and of a store."""
    names = [chance.choice(group) for group in (sorted(deployment.running), [BALANCER], [*REDIS, *MONGODB])]
    for name in names:
        delay, jitter, loss = (chance.uniform(*limits) for limits in (DELAY, JITTER, LOSS))
        deployment.hosts[name].impair(delay, jitter, loss)
    time.sleep(chance.uniform(*IMPAIRED))
    for name in names:
        deployment.hosts[name].mend()
    wait_for(deployment.is_whole, "stores that are whole", FAILOVER)
    return "late, lost and reordered packets of three hosts"


def skew_clocks(deployment: Deployment, chance: random.Random) -> str:
    """Of all hosts but the sentinels, which do not act for half a minute after a jump."""
    for name in (*INGESTION, *WORKERS, *REDIS, *MONGODB):
        deployment.hosts[name].set_clock(chance.uniform(-SKEW, SKEW))
    time.sleep(2)
    return "clocks of all hosts jump"


def change_worker_hosts(deployment: Deployment, chance: random.Random) -> str:
    """Adds the third one, or removes one."""
    stopped = [name for name in WORKERS if name not in deployment.running]
    if stopped:
        deployment.start(*stopped)
        return "a worker host is added"
    deployment.stop(chance.choice(WORKERS))
    return "a worker host is removed"


def roll_ingestion(source: Path) -> Fault:
    """One host after the other stops and starts with the checkout `source`."""

    def roll(deployment: Deployment, _: random.Random) -> str:
        for name in INGESTION:
            deployment.stop(name)
            deployment.install(name, source)
            deployment.start(name)
        return "ingestion hosts roll to another checkout"

    return roll


def kill_redis_master(deployment: Deployment, _: random.Random) -> str:
    old = deployment.pair.master()
    assert old is not None
    old.kill()
    wait_for(lambda: deployment.pair.master() not in (old, None), "another master", FAILOVER)
    old.start()  # as its supervisor would; until it is a replica, no replica has the new master's writes
    wait_for(deployment.pair.is_whole, "the old master as a replica", FAILOVER)
    return "Redis's master dies"


def cut_off_redis_master(deployment: Deployment, _: random.Random) -> str:
    """It goes on as a master that no sentinel reaches."""
    old, host = deployment.pair.master(), deployment.hosts[_redis_master(deployment)]
    host.cut_off()
    wait_for(lambda: deployment.pair.master() not in (old, None), "another master", FAILOVER)
    host.mend()
    wait_for(deployment.pair.is_whole, "the old master as a replica", FAILOVER)
    return "Redis's master is cut off"


def kill_mongodb_primary(deployment: Deployment, _: random.Random) -> str:
    old = deployment.mongodb.primary()
    old.kill()
    wait_for(lambda: deployment.mongodb.primary() is not old, "another primary", FAILOVER)
    old.start()
    wait_for(deployment.mongodb.is_whole, "the old primary as a secondary", FAILOVER)
    return "MongoDB's primary dies"


def cut_off_mongodb_primary(deployment: Deployment, _: random.Random) -> str:
    old, host = deployment.mongodb.primary(), deployment.hosts[_mongodb_primary(deployment)]
    host.cut_off()
    wait_for(lambda: deployment.mongodb.primary() is not old, "another primary", FAILOVER)
    host.mend()
    wait_for(deployment.mongodb.is_whole, "the old primary as a secondary", FAILOVER)
    return "MongoDB's primary is cut off"


FAULTS: tuple[Fault, ...] = (
    cut_off_an_app,
    cut_off_a_replica,
    impair_links,
    skew_clocks,
    change_worker_hosts,
    change_worker_hosts,
    kill_redis_master,
    cut_off_redis_master,
    kill_mongodb_primary,
    cut_off_mongodb_primary,
)


def _cut_off(deployment: Deployment, chance: random.Random, name: str) -> str:
    deployment.hosts[name].cut_off()
    time.sleep(chance.uniform(*CUT))
    deployment.hosts[name].mend()
    return f"a host of {name.rstrip('123')} is cut off"


def _redis_master(deployment: Deployment) -> str:
    master = wait_for(deployment.pair.master, "a master")
    return REDIS[deployment.pair.pair.index(master)]


def _mongodb_primary(deployment: Deployment) -> str:
    return MONGODB[deployment.mongodb.members.index(deployment.mongodb.primary())]
