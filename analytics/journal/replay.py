"""Replay: a dead letter's event goes through the journal once more, under the id it always had.

The letter stays until the worker has stored the event, so nothing is lost in between, and replaying twice is harmless:
the second is a duplicate of the first. What fails again is one more attempt of the same letter.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from analytics.events.account import Account
from analytics.events.schema import InvalidEvent, load_journal_event
from analytics.journal.dead_letters import DeadLetter, DeadLetterStore, LetterFilter
from analytics.journal.journal import Journal, Replay


@dataclass(frozen=True, slots=True)
class Replayed:
    """How many letters were sent again; `cut`: how many not, since they were too large to be kept whole."""

    replayed: int
    cut: int


def replay_letter(journal: Journal, letter: DeadLetter) -> bool:
    """Send it again as it came. False where only its beginning was kept. Raises Unavailable."""
    if len(letter.raw) < letter.raw_bytes:
        return False
    try:
        account = _account_of(letter, letter.raw)
    except InvalidEvent:  # it will fail again, and that is its operator's to see
        account = letter.account
    journal.replay(account, letter.raw, Replay(letter.id, letter.received_at, letter.sequence))
    return True


def replay_edited(journal: Journal, letter: DeadLetter, event: Any) -> None:
    """Send this event in its place, under the id that the letter's event has or would have had.

    Raises InvalidEvent where it would only fail again, and Unavailable.
    """
    if not isinstance(event, dict):
        raise InvalidEvent({"event": ["Not a JSON object."]})
    event_id, received_at = _identity(letter)
    edited = {"received_at": received_at.isoformat()} | event | {"id": event_id.hex}
    edited.pop("event_id", None)  # the id is derived from it already
    raw = json.dumps(edited, ensure_ascii=False).encode(errors="surrogatepass")
    journal.replay(_account_of(letter, raw), raw, Replay(letter.id, letter.received_at, letter.sequence))


def replay_all(
    journal: Journal, letters: DeadLetterStore, which: LetterFilter, each: Callable[[], object] = lambda: None
) -> Replayed:
    """`each` is called after every letter. Raises Unavailable, some being replayed by then; again is harmless."""
    replayed = cut = 0
    # What dies once more while this runs becomes the newest, and is not met again.
    for letter in letters.find(which):
        if replay_letter(journal, letter):
            replayed += 1
        else:
            cut += 1
        each()
    return Replayed(replayed, cut)


def _account_of(letter: DeadLetter, raw: bytes) -> Account:
    event = load_journal_event(raw, lambda: letter.id, lambda: letter.received_at)
    return Account(event.site_id, event.received_at.date())


def _identity(letter: DeadLetter) -> tuple[UUID, datetime]:
    """The event's id and when it was received, which an edit leaves alone."""
    try:
        event = load_journal_event(letter.raw, lambda: letter.id, lambda: letter.received_at)
    except InvalidEvent:
        return letter.id, letter.received_at
    return event.id, event.received_at
