"""Announces dead letters: a small task for each, on its own queue. Flower then shows its id, reason and site."""

from collections.abc import Sequence

import structlog
from celery.exceptions import OperationalError

from analytics.journal.dead_letters import Death
from tasks.app import app

log = structlog.get_logger()


@app.task(name="tasks.dead_letters.announce_dead_letter")
def announce_dead_letter(letter: str, reason: str, site_id: str) -> dict[str, str]:
    log.warning("dead_letter_kept", letter=letter, reason=reason, site_id=site_id)
    return {"letter": letter, "reason": reason, "site_id": site_id}


def announce(deaths: Sequence[Death]) -> None:
    """Announces dead letters that are already stored. If the broker is not reachable, only the
    announcements are lost.
    """
    try:
        for death in deaths:
            announce_dead_letter.apply_async((str(death.letter), death.reason, death.account.site_id))
    except OperationalError as error:
        log.warning("dead_letters_not_announced", error=str(error))
