"""Every ten minutes, removes expired salts also from Redis's append-only file."""

from datetime import UTC, datetime
from functools import cache

import structlog

from analytics.visitors.salts import SaltKeeper
from config.clients import make_redis
from tasks.app import app, settings
from tasks.outcome import Result, zeros_if_unavailable

log = structlog.get_logger()


@cache
def keeper() -> SaltKeeper:
    return SaltKeeper(make_redis(settings), lambda: datetime.now(UTC))


@app.task(name="tasks.salts.destroy_salts")
@zeros_if_unavailable("salts_not_destroyed", destroyed=0)
def destroy_salts() -> Result:
    """Destroys expired salts. If Redis may not rewrite its file, as on managed Redis, each run logs that."""
    if destroyed := keeper().destroy():
        log.info("salts_destroyed", salts=destroyed)
    return {"destroyed": destroyed}
