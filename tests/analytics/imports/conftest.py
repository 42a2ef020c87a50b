"""Imports into a site on real stores, with the worker's function called in between."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from pymongo.database import Database
from redis import Redis

from analytics.imports.formats import IMPORT_FORMATS, detect
from analytics.imports.importer import ImportPlan
from analytics.imports.source import source_files
from analytics.imports.store import ImportRecord
from analytics.journal.audit import Audited, audit
from analytics.journal.ledger import Ledger
from analytics.pipeline import store_waiting
from config.services import Services
from tests.support.services import ADMIN_KEY

SAMPLES = Path(__file__).parent / "samples"
BEARER = {"Authorization": f"Bearer {ADMIN_KEY}"}


class Killed(BaseException):
    """Nothing catches it, as nothing catches a kill -9."""


@dataclass
class Imports:
    services: Services
    report: FlaskClient
    database: Database[dict[str, Any]]
    redis: Redis

    def plan(self, *paths: Path | str, site: str = "shop", name: str = "", owner: str = "") -> ImportPlan:
        files = source_files(SAMPLES / path for path in paths)
        return ImportPlan(self.services.sites.get(site), IMPORT_FORMATS[name] if name else detect(files), files, owner)

    def run(self, *paths: Path | str, **options: str) -> ImportRecord:
        record = self.services.importer.run(self.plan(*paths, **options), lambda: None)
        self.drain()
        return record

    def kill_after(
        self, rows: int, plan: ImportPlan, before: Callable[[ImportRecord], object] = lambda _: None
    ) -> None:
        """Run the import up to the record with this many rows, where its process dies. `before` is called with each
        record.
        """

        def die(record: ImportRecord) -> None:
            before(record)
            if record.rows == rows:
                raise Killed

        with pytest.raises(Killed):
            self.services.importer.run(plan, lambda: None, die)

    def drain(self) -> None:
        while self.services.journal.waiting():
            store_waiting(self.services.stores, "task")

    def ask(self, metrics: Sequence[str], *dimensions: str, site: str = "shop", **more: Any) -> list[list[Any]]:
        body = {"site_id": site, "metrics": metrics, "date_range": "all", "dimensions": dimensions, **more}
        answer = self.report.post("/api/v2/query", json=body, headers=BEARER)
        assert answer.status_code == 200, answer.json
        return [[*row["dimensions"], *row["metrics"]] for row in answer.json["results"]]

    def totals(self, site: str = "shop") -> list[Any]:
        """Visitors, visits, pageviews and all events."""
        return self.ask(["visitors", "visits", "pageviews", "events"], site=site)[0]

    def stored(self) -> list[dict[str, Any]]:
        return list(self.database["events"].find().sort("_id"))

    def faults(self) -> list[str]:
        stores = self.services.stores
        ledger = Ledger(self.redis, self.database)
        return audit(Audited(ledger, stores.journal, stores.events, stores.dead_letters)).faults


@pytest.fixture
def imports(services: Services, report: FlaskClient, database: Database[dict[str, Any]], redis: Redis) -> Imports:
    return Imports(services, report, database, redis)
