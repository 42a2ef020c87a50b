"""An account is where an event is counted: a site and a day. Beside it, the names of what is counted."""

from dataclasses import dataclass
from datetime import date

ACCEPTED, REPLAYED, STORED, DUPLICATE, DEAD = "accepted", "replayed", "stored", "duplicate", "dead"
REJECTED, DROPPED = "rejected:", "dropped:"  # at the collector, each with its reason
DROPPED_LATER = "dropped-later:"  # in a worker, likewise
REFUSED = "refused:"  # answered with 429, to come again; part of no sum


@dataclass(frozen=True, slots=True, order=True)
class Account:
    """Where an event is counted: its site, "" where that cannot be known, and the UTC day on which it was received."""

    site_id: str
    day: date

    def __str__(self) -> str:
        return f"{self.day.isoformat()} {self.site_id}"

    @classmethod
    def from_text(cls, text: str) -> "Account":
        """Raises ValueError."""
        return cls(text[11:], date.fromisoformat(text[:10]))
