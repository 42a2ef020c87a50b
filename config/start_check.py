"""The check of the stores before a process starts. It does not start if their data has the format of a later version,
or if a restore is not complete. A store that is not reachable does not prevent a start.
"""

import sys
from contextlib import closing, suppress

from analytics.store_notes import StoresNotReady
from analytics.unavailable import Unavailable
from config.services import Services
from config.settings import Settings


def check_stores_before_start(settings: Settings, *stores: str) -> None:
    """Raises StoresNotReady. `stores`: "redis", "mongodb" or both."""
    with closing(Services(settings)) as services:
        checks = {"redis": services.store_notes.check_redis, "mongodb": services.store_notes.check_mongodb}
        for store in stores:
            with suppress(Unavailable):
                checks[store]()


def exit_if_stores_are_not_ready(settings: Settings, *stores: str) -> None:
    """Ends the process with one line if it cannot use these stores."""
    try:
        check_stores_before_start(settings, *stores)
    except StoresNotReady as error:
        sys.exit(f"footfall: {error}")
