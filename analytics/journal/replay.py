"""Replay: sends a dead letter's event through the journal again, under its original id.

The dead letter stays until the worker has stored the event, so nothing is lost in between. Replaying twice is harmless,
because the second event is a duplicate of the first. An event that fails again adds an attempt to the same dead letter.
Callers must handle Unavailable, and InvalidEvent from `replay_edited`.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from analytics.events.account import Account
from analytics.events.schema import InvalidEvent, load_event, load_journal_event
from analytics.journal.dead_letters import DeadLetter, DeadLetterStore, LetterFilter
from analytics.journal.journal import Journal, Replay


@dataclass(frozen=True, slots=True)
class Replayed:
    """How many dead letters were replayed. `cut` is how many were not, because they were too large to be kept whole."""

    replayed: int
    cut: int


def replay_letter(journal: Journal, letter: DeadLetter) -> bool:
    """Replay the event unchanged. Returns False if only its beginning was kept. Raises Unavailable."""
    if len(letter.raw) < letter.raw_bytes:
        return False
    try:
        account = _account_of(letter, letter.raw)
    except InvalidEvent:  # the event will fail again, and the operator will see it
        account = letter.account
    journal.replay(account, letter.raw, Replay(letter.id, letter.received_at, letter.sequence))
    return True


def replay_edited(journal: Journal, letter: DeadLetter, event: Any) -> None:
    """Replay `event` in place of the dead letter's event, under the id that the original event has or would have had.

    Raises InvalidEvent if the event would fail again, and Unavailable.
    """
    if not isinstance(event, dict):
        raise InvalidEvent({"event": ["Not a JSON object."]})
    event_id, received_at = _identity(letter)
    load_event(event, received_at)  # also checks the url, as load_journal_event does not
    edited = {"received_at": received_at.isoformat()} | event | {"id": event_id.hex}
    edited.pop("event_id", None)  # the id is already derived from it
    raw = json.dumps(edited, ensure_ascii=False).encode(errors="surrogatepass")
    journal.replay(_account_of(letter, raw), raw, Replay(letter.id, letter.received_at, letter.sequence))


def replay_all(
    journal: Journal, letters: DeadLetterStore, which: LetterFilter, each: Callable[[], object] = lambda: None
) -> Replayed:
    """Replay all selected dead letters. `each` is called after every dead letter. Raises Unavailable; some may be
    replayed by then, and repeating the call is harmless.
    """
    replayed = cut = 0
    # A dead letter that fails again during the loop becomes the newest, so the loop does not reach it again.
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
    """The event's id and receipt time, which an edit does not change."""
    try:
        event = load_journal_event(letter.raw, lambda: letter.id, lambda: letter.received_at)
    except InvalidEvent:
        return letter.id, letter.received_at
    return event.id, event.received_at
