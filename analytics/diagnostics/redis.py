"""Checks whether this Redis is configured to keep what a 200 promises. Reading its state needs a connection; judging it
does not.

Raises Unanswered if Redis does not answer or refuses the user. The finding states the address, the reason, and what to
do. If CONFIG or CLIENT is forbidden, as on managed Redis, its value is None.
"""

import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from redis import Redis
from redis.connection import SSLConnection
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    NoPermissionError,
    RedisError,
    ResponseError,
)
from redis.exceptions import TimeoutError as RedisTimeoutError

from analytics.diagnostics.encryption import tls_problem
from analytics.diagnostics.finding import ClockReading, Finding, Unanswered, megabytes, ok, problem, warning
from analytics.diagnostics.server_kind import has_tls, kind_of_server
from analytics.journal.journal import REFUSES_ABOVE, check_access
from analytics.visitors.sender_addresses import SenderAddresses, SenderCounts

_OLDEST = (6, 2)
BEAT = "footfall-beat"  # the name of beat's connection (tasks/beat.py)
ENOUGH_HITS, MOSTLY = 500, 0.95  # hits before client_addresses judges, and the share that is suspicious
BEAT_SILENT = 5  # seconds; beat queries Redis every second
ACL = "Ask the operator of Redis, or give this user the right: `redis-cli acl setuser <user> +{}`."


@dataclass(frozen=True, slots=True)
class RedisFacts:
    """What Redis reports. `info` is from INFO, and `clients` from CLIENT LIST. None means that the user may not read
    it. `senders`: what workers counted there.
    """

    info: Mapping[str, Any]
    appendfsync: str | None
    clients: list[dict[str, str]] | None
    clock: ClockReading
    senders: SenderCounts


def read_redis(redis: Redis, now: Callable[[], float]) -> RedisFacts:
    """Read the facts. Raises Unanswered."""
    with _answering(redis):
        redis.ping()  # so that connecting is not part of the round trip
        asked = now()
        seconds, microseconds = redis.time()
        clock = ClockReading(asked, seconds + microseconds / 1e6, now())
        config: Any = _if_allowed(lambda: redis.config_get("appendfsync"))
        clients: Any = _if_allowed(redis.client_list)
        info: Any = redis.info()
        senders = SenderAddresses(redis).read(datetime.fromtimestamp(now(), UTC))
        return RedisFacts(info, config.get("appendfsync") if config else None, clients, clock, senders)


def check_redis(redis: Redis) -> None:
    """Raises Unanswered if Redis does not answer, or does not let this user read the journal."""
    with _answering(redis):
        check_access(redis)


def others_connected(redis: Redis) -> list[str]:
    """Return the names of connections of running processes of Footfall, sorted. Empty if this user may not list them.
    Raises Unanswered.
    """
    with _answering(redis):
        clients: Any = _if_allowed(redis.client_list) or []
    return sorted({client["name"] for client in clients if client.get("name", "").startswith("footfall-")})


@contextmanager
def _answering(redis: Redis) -> Iterator[None]:
    """Run a block that queries Redis. Raises Unanswered if the query fails."""
    try:
        yield
    except RedisError as error:
        raise Unanswered(_why_unanswered(redis, error)) from error


def redis_version(redis: RedisFacts) -> Finding:
    version = str(redis.info["redis_version"])
    if tuple(int(part) for part in version.split(".")[:2]) < _OLDEST:
        return problem(f"Redis {version} is too old for the journal.", "Upgrade it to 6.2 or newer.")
    return ok(f"Redis {version}.")


def redis_role(redis: RedisFacts) -> Finding:
    if redis.info.get("redis_mode") == "cluster":
        return problem(
            "This is a Redis Cluster. Celery cannot use it.", "Set REDIS_URL to a Redis without cluster mode."
        )
    if redis.info["role"] != "master":
        remedy = "Set REDIS_URL to the primary, or make this Redis the primary: `redis-cli replicaof no one`."
        return problem("This Redis is a replica. It accepts no writes.", remedy)
    return ok("Redis is a primary and accepts writes.")


def redis_append_only(redis: RedisFacts) -> Finding:
    if not redis.info["aof_enabled"]:
        remedy = "Run `redis-cli config set appendonly yes`, and add `appendonly yes` to redis.conf."
        return problem("Redis keeps events in memory only. A restart loses the events in the journal.", remedy)
    return ok("Redis keeps an append-only file.")


def redis_appendfsync(redis: RedisFacts) -> Finding:
    remedy = "Run `redis-cli config set appendfsync always`, and add `appendfsync always` to redis.conf."
    if redis.appendfsync is None:
        return warning(
            "The Redis user may not read appendfsync.", f"Make sure that it is `always`. {ACL.format('config|get')}"
        )
    if redis.appendfsync != "always":
        return problem(f"appendfsync is {redis.appendfsync}. Redis answers before the event is on disk.", remedy)
    return ok("appendfsync is always. Redis answers when the event is on disk.")


def redis_last_writes(redis: RedisFacts) -> Finding:
    names = ("aof_last_write_status", "aof_last_bgrewrite_status", "rdb_last_bgsave_status")
    failed = [name for name in names if redis.info.get(name, "ok") != "ok"]
    if failed:
        remedy = "Check for a full disk or missing permissions: `redis-cli config get dir`, `df -h`, and Redis's log."
        return problem(f"Redis could not write to its disk: {', '.join(failed)} is not ok.", remedy)
    return ok("Redis's last writes to its disk succeeded.")


def redis_eviction(redis: RedisFacts) -> Finding:
    policy = redis.info["maxmemory_policy"]
    if policy != "noeviction":
        remedy = (
            "Run `redis-cli config set maxmemory-policy noeviction`, "
            "and add `maxmemory-policy noeviction` to redis.conf."
        )
        return problem(f"maxmemory-policy is {policy}. A full Redis deletes accepted events.", remedy)
    return ok("maxmemory-policy is noeviction. A full Redis refuses new data and deletes nothing.")


def redis_memory(redis: RedisFacts) -> Finding:
    used, most = redis.info["used_memory"], redis.info["maxmemory"]
    if not most:
        remedy = "Run `redis-cli config set maxmemory 1gb`, and add `maxmemory 1gb` to redis.conf."
        return problem("maxmemory is not set. Redis grows until the kernel kills it.", remedy)
    share = f"Redis uses {megabytes(used)} of {megabytes(most)}. Above {REFUSES_ABOVE:.0%} it refuses new events."
    remedy = "Check that workers run and MongoDB answers, or raise maxmemory: `redis-cli config set maxmemory 2gb`."
    if used > most * REFUSES_ABOVE:
        return problem(share, remedy)
    if used > most * REFUSES_ABOVE / 2:  # an idle journal is nearly empty
        return warning(share, remedy)
    return ok(share)


def redis_clock(redis: RedisFacts) -> Finding:
    return redis.clock.check("Redis")


def beat(redis: RedisFacts) -> Finding:
    """Check beat, which queries Redis every second for owed wake-ups, over a connection with its name."""
    if redis.clients is None:
        return warning("The Redis user may not list clients, so beat cannot be checked.", ACL.format("client|list"))
    idle = [int(client["idle"]) for client in redis.clients if client.get("name") == BEAT]
    remedy = "Start or restart it: `.venv/bin/celery -A tasks beat`."
    if not idle:
        return problem("Celery's beat does not run. Events whose task is lost wait until the next event.", remedy)
    if min(idle) > BEAT_SILENT:
        return problem(f"beat is connected, but has sent nothing for {min(idle)} s.", remedy)
    return ok("beat runs.")


def client_addresses(redis: RedisFacts) -> Finding:
    """Check for a proxy that hides the addresses of visitors."""
    known, private = redis.senders.known, redis.senders.private
    if known < ENOUGH_HITS:
        return ok(f"Too few hits to tell whether a proxy hides addresses: {known:,} since yesterday.")
    what = f"{private / known:.0%} of {known:,} hits since yesterday came from private addresses."
    if private > known * MOSTLY:
        remedy = (
            "If visitors come from the internet, a proxy hides their addresses, and they count as one visitor. Set"
            " TRUSTED_PROXIES to the number of proxies, each of which must set X-Forwarded-For (docs/proxies.md)."
        )
        return warning(what, remedy)
    return ok(what)


def _why_unanswered(redis: Redis, error: RedisError) -> Finding:
    given = redis.connection_pool.connection_kwargs
    host, port = given.get("host"), given.get("port", 6379)
    where = f"{host}:{port}" if host else str(given.get("path", "the address that the sentinels know"))
    reason = str(error).rstrip(".")
    if isinstance(error, NoPermissionError):
        what = f"Redis at {where} refuses a command of this user: {reason}."
        return problem(what, "Give the user the rights of docs/stores.md. `redis-cli acl log` lists what was refused.")
    if isinstance(error, AuthenticationError):
        what = f"Redis at {where} refuses the user or the password: {reason}."
        return problem(what, "Set REDIS_URL=redis://user:password@host:6379/0.")
    if isinstance(error, BusyLoadingError):
        return problem(f"Redis at {where} is loading its data.", "Wait until it has finished.")
    if isinstance(error, ResponseError):
        return problem(f"Redis at {where} refuses the command: {reason}.", "Correct REDIS_URL.")
    return _why_away(redis, error, where)


def _why_away(redis: Redis, error: RedisError, where: str) -> Finding:
    """Distinguish a server without Redis, or with other TLS, from a Redis that does not answer."""
    if found := tls_problem(error, f"Redis at {where}", "REDIS_URL", "ssl_ca_certs"):
        return found
    given = redis.connection_pool.connection_kwargs
    reason, host, port = str(error).rstrip("."), str(given.get("host", "")), given.get("port", 6379)
    is_clear = host and not issubclass(redis.connection_pool.connection_class, SSLConnection)
    cause = error.__cause__ or error.__context__
    if isinstance(cause, ConnectionRefusedError):
        reason = "the connection was refused"
    elif isinstance(cause, socket.gaierror):
        reason = "there is no host of this name"
    elif is_clear and has_tls(host, port):
        return problem(f"The server at {where} expects TLS.", "Write rediss:// in REDIS_URL (docs/stores.md).")
    elif is_clear and (kind := kind_of_server(host, port)) and kind != "Redis":
        return problem(
            f"The server at {where} is {kind}, not Redis.", "Correct REDIS_URL, or REDIS_HOST and REDIS_PORT."
        )
    elif isinstance(error, RedisTimeoutError):
        reason = f"no answer within {given['socket_timeout']:g} s"
    remedy = "Start it, or correct REDIS_URL, or REDIS_HOST and REDIS_PORT. If none is set, `make run` starts Redis."
    return problem(f"Redis does not answer at {where}: {reason}.", remedy)


def _if_allowed(ask: Callable[[], Any]) -> Any:
    try:
        return ask()
    except ResponseError:
        return None
