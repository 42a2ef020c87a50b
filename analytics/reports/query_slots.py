"""The slots in which a process runs queries, shared between sites and between API keys.

One site, or one API key, has at most all slots but one, so that a slot is left for the others. A free slot goes to the
waiting site with the fewest slots, and among equals to the site that was served longest ago. With only one slot, sites
take turns, and a query waits for the one before it.
"""

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count

from analytics.reports.results import Refused

_TOO_MANY = "Too many queries are running. Send the request again."
TOO_MANY_OF_SITE = "Too many queries about this site are running. Send the request again."


@dataclass(frozen=True, eq=False, slots=True)
class _Waiter:
    site_id: str
    key: str
    number: int


class QuerySlots:
    """Distributes the slots. `patience` is the seconds that a query waits for a slot before it is Refused.
    `most_waiting` is the number of queries of one site that may wait, because each of them holds a thread of the
    process.
    """

    def __init__(self, slots: int, patience: float, most_waiting: int = 4) -> None:
        self._slots = slots
        self._share = max(1, slots - 1)
        self._patience = patience
        self._most_waiting = most_waiting
        self._changed = threading.Condition()
        self._numbers = count(1)
        self._waiting: list[_Waiter] = []
        self._of_site: Counter[str] = Counter()  # how many slots each site has
        self._of_key: Counter[str] = Counter()
        self._served: dict[str, int] = {}  # the number of the last served query, for sites that have or await a slot

    @contextmanager
    def slot(self, site_id: str, key: str = "") -> Iterator[None]:
        """Hold a slot while the block runs. `key` is "" for a query without an API key; such queries share no limit
        with each other. Raises Refused.
        """
        self._take(site_id, key)
        try:
            yield
        finally:
            self._give_back(site_id, key)

    def _take(self, site_id: str, key: str) -> None:
        with self._changed:
            if sum(waiter.site_id == site_id for waiter in self._waiting) >= self._most_waiting:
                raise Refused("busy", TOO_MANY_OF_SITE)
            waiter = _Waiter(site_id, key, next(self._numbers))
            self._waiting.append(waiter)
            admitted = self._changed.wait_for(lambda: self._next() is waiter, self._patience)
            self._waiting.remove(waiter)
            if admitted:
                self._of_site[site_id] += 1
                self._of_key[key] += 1
                self._served[site_id] = next(self._numbers)
            else:
                self._forget(site_id)
            self._changed.notify_all()  # another query may be next now
        if not admitted:
            raise Refused("busy", _TOO_MANY)

    def _next(self) -> _Waiter | None:
        if self._of_site.total() >= self._slots:
            return None
        ready = [waiter for waiter in self._waiting if self._has_share(waiter)]
        return min(ready, key=self._order, default=None)

    def _has_share(self, waiter: _Waiter) -> bool:
        of_key = self._of_key[waiter.key] if waiter.key else 0
        return max(self._of_site[waiter.site_id], of_key) < self._share

    def _order(self, waiter: _Waiter) -> tuple[int, int, int, int]:
        of_key = self._of_key[waiter.key] if waiter.key else 0
        return self._of_site[waiter.site_id], of_key, self._served.get(waiter.site_id, 0), waiter.number

    def _give_back(self, site_id: str, key: str) -> None:
        with self._changed:
            self._of_site[site_id] -= 1
            self._of_key[key] -= 1
            self._of_key += Counter()  # keeps only positive counts
            self._of_site += Counter()
            self._forget(site_id)
            self._changed.notify_all()

    def _forget(self, site_id: str) -> None:
        if not self._of_site[site_id] and all(waiter.site_id != site_id for waiter in self._waiting):
            self._served.pop(site_id, None)
