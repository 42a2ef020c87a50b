"""What several stores in Redis need: commands that replicas confirm, and rewriting the append-only file."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

import structlog
from redis import Redis
from redis.client import Pipeline
from redis.exceptions import RedisError, ResponseError

log = structlog.get_logger()

REPLICA_WAIT = 400  # milliseconds for replicas to confirm: half of Redis's own time-out of 0.8 s
REWRITE_LIMIT = 20.0  # seconds to wait until Redis has rewritten its file
_REWRITE_CHECK = 0.05  # seconds between two looks at a rewrite

Command = tuple[Any, ...]


def execute_now(redis: Redis, commands: Sequence[Command], replicas: int = 0) -> list[Any]:
    """As execute_confirmed, with the commands as tuples."""
    line = redis.pipeline(transaction=False)
    for command in commands:
        line.execute_command(*command)  # type: ignore[no-untyped-call]
    return execute_confirmed(line, replicas) if replicas else line.execute()


def execute_confirmed(line: Pipeline, replicas: int) -> list[Any]:
    """Run these commands, and return their replies after `replicas` replicas have confirmed the writes. Raises
    RedisError.
    """
    line.wait(replicas, REPLICA_WAIT)
    *replies, confirmed = line.execute()
    if confirmed < replicas:
        # Another Redis may be master by now, and this one cannot know. The next connection asks the sentinels.
        line.connection_pool.disconnect(inuse_connections=False)
        raise RedisError(f"{confirmed} of {replicas} replicas confirmed")
    return replies


def is_rewriting(info: Mapping[str, Any]) -> bool:
    """Whether Redis rewrites its append-only file, or will soon. `info` is the reply to INFO."""
    return bool(info["aof_rewrite_in_progress"] or info["aof_rewrite_scheduled"])


def rewrite_file(redis: Redis) -> bool:
    """Make Redis rewrite its append-only file without what was deleted, and return whether it did. It returns False if
    the rewrite takes too long, or if a rewrite was already running, because it may have begun too early. Raises
    RedisError.
    """
    info: Any = redis.info("persistence")
    if not info["aof_enabled"]:
        return True
    if is_rewriting(info):
        return False
    try:
        redis.bgrewriteaof()
    except ResponseError as error:
        # a managed service forbids the command; its operator is responsible
        log.warning("redis_file_not_rewritten", error=str(error))
        return True
    end = time.monotonic() + REWRITE_LIMIT
    while time.monotonic() < end:
        time.sleep(_REWRITE_CHECK)
        info = redis.info("persistence")
        if not is_rewriting(info):
            return bool(info["aof_last_bgrewrite_status"] == "ok")
    return False
