"""Single events of several sites, sent in parts, and the comparison of those that were acknowledged with MongoDB."""

import json
from dataclasses import dataclass

from analytics.journal.journal import JOURNAL_KEY
from bench.chaos import audited
from bench.load import Load, post_request, run_load
from tests.support.running_system import System, wait_for

SITES = tuple(f"site-{number}" for number in range(20))
CONNECTIONS = 64
PAGES, VISITORS = 200, 5000
DRAIN_LIMIT = 900  # seconds


@dataclass(frozen=True)
class Outcome:
    """What became of acknowledged events. `lost`: they are not stored. `doubled`: documents in excess of one each."""

    acknowledged: int
    lost: int
    doubled: int
    ledger: list[str]

    def faults(self) -> list[str]:
        counts = {"lost": self.lost, "doubled": self.doubled}
        return [f"{count:,} events {what}" for what, count in counts.items() if count] + self.ledger

    def rows(self) -> dict[str, str]:
        """Of a table."""
        return {
            "acknowledged": f"{self.acknowledged:,}",
            "lost": f"{self.lost}",
            "doubled": f"{self.doubled}",
            "ledger": "; ".join(self.ledger) or "balanced",
        }


class ManyEvents:
    """An event has a number, by which it is found in MongoDB. A byte is kept for each."""

    def __init__(self, system: System) -> None:
        self._system = system
        self._acknowledged = bytearray()  # by number: whether it was

    def send(self, seconds: float, *, rate: float = 0, connections: int = CONNECTIONS) -> Load:
        """Sends `rate` events per second, or without a rate as many as are answered."""
        first, sent = len(self._acknowledged), 0

        def render(number: int) -> bytes:
            nonlocal sent
            sent = number
            return _request(first + number)

        port = self._system.ports["INGESTION_PORT"]
        load = run_load(port, render, connections=connections, seconds=seconds, rate=rate)
        self._acknowledged.extend(bytes(sent + 1))
        for number in load.answered:
            self._acknowledged[first + number] = 1
        return load

    def wait_until_stored(self) -> None:
        wait_for(lambda: self._system.redis().xlen(JOURNAL_KEY) == 0, "an empty journal", DRAIN_LIMIT)

    def count(self) -> Outcome:
        """Returns when all are stored, with everything counted."""
        self.wait_until_stored()
        found, doubled = bytearray(len(self._acknowledged)), 0
        with self._system.database() as database:
            for document in database["events"].find({"site_id": {"$in": SITES}}, {"props": 1}):
                number = int(document["props"]["number"])
                doubled += found[number]
                found[number] = 1
            ledger = audited(self._system, database)
        lost = sum(was and not there for was, there in zip(self._acknowledged, found, strict=True))
        return Outcome(self._acknowledged.count(1), lost, doubled, ledger)


def _request(number: int) -> bytes:
    body = {
        "site_id": SITES[number % len(SITES)], "event_type": "page_view", "path": f"/{number % PAGES}",
        "user_id": f"{number % VISITORS}", "event_id": f"{number}", "props": {"number": number},
    }  # fmt: skip
    return post_request("bench", "/event", json.dumps(body).encode())
