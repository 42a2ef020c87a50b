"""Every ten minutes, removes expired salts also from Redis's append-only file."""

import structlog

from tasks.app import app, services
from tasks.outcome import Result, zeros_if_unavailable

log = structlog.get_logger()


@app.task(name="tasks.salts.destroy_salts")
@zeros_if_unavailable("salts_not_destroyed", destroyed=0)
def destroy_salts() -> Result:
    """Destroys expired salts. If Redis may not rewrite its file, as on managed Redis, each run logs that."""
    if destroyed := services().salt_keeper.destroy():
        log.info("salts_destroyed", salts=destroyed)
    return {"destroyed": destroyed}
