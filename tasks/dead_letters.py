"""Announces dead letters, a tiny task for each on a queue of its own, so that Flower shows them: which, why, whose."""

from collections.abc import Sequence

import structlog
from celery.exceptions import OperationalError

from analytics.journal.dead_letters import Death
from tasks.app import app

log = structlog.get_logger()


@app.task(name="tasks.dead_letters.announce_dead_letter")
def announce_dead_letter(letter: str, reason: str, site_id: str) -> dict[str, str]:
    log.warning("dead_letter", letter=letter, reason=reason, site_id=site_id)
    return {"letter": letter, "reason": reason, "site_id": site_id}


def announce(deaths: Sequence[Death]) -> None:
    """After they are kept. A broker that is away costs the announcements, never the letters."""
    try:
        for death in deaths:
            announce_dead_letter.apply_async((str(death.letter), death.reason, death.account.site_id))
    except OperationalError as error:
        log.warning("dead_letters_not_announced", error=str(error))
