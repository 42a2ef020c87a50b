"""The account, which is the site and day where an event is counted, and the names of the counts. Pure."""

from datetime import date

from msgspec import Struct

ACCEPTED, REPLAYED, STORED, DUPLICATE, DEAD = "accepted", "replayed", "stored", "duplicate", "dead"
IMPORTED = "imported"  # those of the accepted events that an import brought
REJECTED, DROPPED = "rejected:", "dropped:"  # at the collector, each followed by its reason
DROPPED_LATER = "dropped-later:"  # in a worker, followed by its reason
AI_CRAWLER = "ai_crawler:"  # such a reason, followed by the name of the crawler
REFUSED = "refused:"  # answered with 429 so that the client sends it again; part of no sum


class Account(Struct, frozen=True, order=True, gc=False):
    """Where an event is counted: its site ("" if the site is unknown) and the UTC day on which it was received."""

    site_id: str
    day: date

    def __str__(self) -> str:
        return f"{self.day.isoformat()} {self.site_id}"

    @classmethod
    def from_text(cls, text: str) -> "Account":
        """Read what `__str__` wrote. Raises ValueError."""
        return cls(text[11:], date.fromisoformat(text[:10]))
