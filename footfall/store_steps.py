"""What `make run` asks the stores while it starts: `python -m footfall.store_steps STEP`.

Each step is a process of its own, so that the supervisor does not keep the stores' clients in memory (28 MB) as long as
it runs. A step ends with 0, or with 1 and a sentence on stderr.
"""

import sys
from contextlib import closing

from analytics.accounts.invitation import join_url
from analytics.store_notes import StoresNotReady
from analytics.unavailable import Unavailable
from config.services import Services
from config.settings import load_settings
from config.start_check import check_stores_before_start
from footfall.replica_set import lead
from footfall.start_error import StartError
from footfall.store_checks import StoreUnreachable, check_store
from footfall.supervised_process import write


def run_step(step: str, *words: str) -> None:
    """Raises StoreUnreachable, StoresNotReady, StartError or Unavailable."""
    match step:
        case "reach":  # a store that was not started here, "redis" or "mongodb"
            check_store(load_settings(), *words)
        case "lead":  # a mongod that was started here, on this port
            lead(*map(int, words))
        case "check":
            check_stores_before_start(load_settings(), "redis", "mongodb")
        case "invite":
            write(invite_owner(*words))


def invite_owner(report: str) -> str:
    """The link that creates the first user, an owner. "" if there is a user. Each start makes another link.

    `report`: the URL of the reporting app.
    """
    with closing(Services(load_settings())) as services:
        return "" if services.accounts.has_users() else join_url(report, services.accounts.invite_owner())


if __name__ == "__main__":
    try:
        run_step(*sys.argv[1:])
    except (StoreUnreachable, StoresNotReady, StartError, Unavailable) as error:
        sys.exit(str(error))
