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
from config.settings import Settings, load_settings
from config.start_check import check_stores_before_start
from footfall.store_checks import StoreUnreachable, check_store
from footfall.supervised_process import write

FIRST_OWNER = """\
Open this link within a day to create your account. It works once:
{link}"""
NO_LINK = "There is no link for the first owner: {error}. Make one with `python -m footfall users invite-owner`."


def run_step(step: str, *words: str) -> None:
    """Raises StoreUnreachable or StoresNotReady."""
    settings = load_settings()
    match step:
        case "reach":  # a store that was not started here, "redis" or "mongodb"
            check_store(settings, *words)
        case "prepare":  # both stores, before the apps start; then what a new owner has to know
            check_stores_before_start(settings, "redis", "mongodb")
            write(invite_owner(settings, *words))


def invite_owner(settings: Settings, report: str) -> str:
    """The link that creates the first user, in a sentence. "" if there is a user. Each start makes another link.

    `report`: the URL of the reporting app.
    """
    with closing(Services(settings)) as services:
        try:
            if services.accounts.has_users():
                return ""
            return FIRST_OWNER.format(link=join_url(report, services.accounts.invite_owner()))
        except Unavailable as error:  # the system runs without the link
            return NO_LINK.format(error=error)


if __name__ == "__main__":
    try:
        run_step(*sys.argv[1:])
    except (StoreUnreachable, StoresNotReady) as error:
        sys.exit(str(error))
