"""What the periodic tasks have in common: a run that cannot do its work logs why and returns zeros, and the next run
continues; and only one process of a machine builds segments or imports at a time, so that another one stores events.
"""

from collections.abc import Callable, Mapping
from functools import wraps

import structlog
from celery.exceptions import SoftTimeLimitExceeded

from analytics.segments.scratch import alone
from analytics.unavailable import Unavailable
from tasks.app import settings

log = structlog.get_logger()

Result = Mapping[str, int | str]
# What DuckDB and bson raise if a signal interrupts them, as that of the soft time limit does.
INTERRUPTED = ("Query interrupted", "SoftTimeLimitExceeded()")


def zeros_if_unavailable(event: str, **zeros: int) -> Callable[[Callable[[], Result]], Callable[[], Result]]:
    """A decorator: logs `event` and returns `zeros` if a store is unavailable, or if the task is stopped."""

    def decorate(task: Callable[[], Result]) -> Callable[[], Result]:
        @wraps(task)
        def run() -> Result:
            try:
                return task()
            except Unavailable as error:
                log.warning(event, error=str(error))
            except SoftTimeLimitExceeded:
                log.warning(event, error="stopped, or out of time")
            except Exception as error:
                if str(error) not in INTERRUPTED:
                    raise
                log.warning(event, error="stopped, or out of time")
            return zeros

        return run

    return decorate


def built_alone(build: Callable[[], int], counted: str = "built") -> Result:
    """`counted` is what `build` returns, or 0 if another process of this machine builds; `skipped` then says so."""
    settings.segment_folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with alone(settings.segment_folder / "building.lock") as is_ours:
        return {counted: build()} if is_ours else {counted: 0, "skipped": "another process builds"}
