"""Every ten minutes, salts that are over leave Redis's append-only file too."""

from datetime import UTC, datetime
from functools import cache

import structlog

from analytics.unavailable import Unavailable
from analytics.visitors.salts import SaltKeeper
from config.clients import make_redis
from tasks.app import app, settings

log = structlog.get_logger()


@cache
def keeper() -> SaltKeeper:
    return SaltKeeper(make_redis(settings), lambda: datetime.now(UTC))


@app.task(name="tasks.salts.destroy_salts")
def destroy_salts() -> dict[str, int]:
    """Where Redis may not be told to rewrite its file, as on managed Redis, the log says so each time."""
    try:
        destroyed = keeper().destroy()
    except Unavailable as error:
        log.warning("salts_not_destroyed", error=str(error))  # the next time will
        return {"destroyed": 0}
    if destroyed:
        log.info("salts_destroyed", salts=destroyed)
    return {"destroyed": destroyed}
