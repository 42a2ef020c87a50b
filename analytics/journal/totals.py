"""What became of events, summed over sites and days of the ledger. Pure."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import astuple, dataclass

from analytics.events.account import ACCEPTED, DEAD, DROPPED, DROPPED_LATER, DUPLICATE, REJECTED, STORED


@dataclass(frozen=True, slots=True)
class Totals:
    """Numbers of events. `left_out`: rejected, and dropped at the collector or in a worker."""

    accepted: int = 0
    stored: int = 0
    duplicate: int = 0
    dead: int = 0
    left_out: int = 0

    def since(self, earlier: "Totals") -> "Totals":
        """How many more events there are than in `earlier`, the totals of the same days."""
        pairs = zip(astuple(self), astuple(earlier), strict=True)
        return Totals(*(max(0, now - then) for now, then in pairs))

    def __add__(self, other: "Totals") -> "Totals":
        return Totals(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))


def totals_of(counts: Iterable[Counter[str]]) -> Totals:
    summed = sum(counts, Counter[str]())
    left_out = sum(n for name, n in summed.items() if name.startswith((REJECTED, DROPPED, DROPPED_LATER)))
    return Totals(summed[ACCEPTED], summed[STORED], summed[DUPLICATE], summed[DEAD], left_out)
