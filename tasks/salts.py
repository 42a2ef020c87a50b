"""Every ten minutes, salts that are over leave Redis's append-only file too."""

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
    """Where Redis may not be told to rewrite its file, as on managed Redis, the log says so each time."""
    if destroyed := keeper().destroy():
        log.info("salts_destroyed", salts=destroyed)
    return {"destroyed": destroyed}
