"""Stores imported daily totals in MongoDB: a document for each site, import, table, day and group.

The id of a document is made of these, so repeating an import after a kill -9 replaces documents and adds none. If
two imports have the same day of the same table, only one of them counts: the one whose id is first. Callers must handle
Unavailable, raised if MongoDB is unreachable or slow.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime
from hashlib import sha256
from typing import Any
from zoneinfo import ZoneInfo

from bson import Binary
from pymongo import ASCENDING, DESCENDING, ReplaceOne
from pymongo.database import Database

from analytics.aggregates.day_total import AGGREGATE_TABLES, AggregateTable, DayTotal
from analytics.mongodb import reading, writing

_REMOVED_AT_ONCE = 5_000
_MOST_TEXT = 32_000_000  # characters of the groups that are summed at once
_BY_DAY = [("site_id", ASCENDING), ("table", ASCENDING), ("day", ASCENDING), ("import_id", ASCENDING)]


class TooManyTotals(Exception):
    """A query would read too many sums."""


class AggregateStore:
    def __init__(self, database: Database[dict[str, Any]]) -> None:
        self._database = database
        self._days = database["imported_days"]
        self._prepared = False

    def add(self, import_id: str, site_id: str, zone: ZoneInfo, totals: Iterable[DayTotal]) -> None:
        """Store the totals, or replace those of the same import, table, day and group. Raises Unavailable."""
        documents = [_to_document(import_id, site_id, zone, each) for each in totals]
        if not documents:
            return
        self._prepare()
        with writing(self._database):
            self._days.bulk_write([ReplaceOne({"_id": x["_id"]}, x, upsert=True) for x in documents], ordered=False)

    def days_of_others(self, site_id: str, import_id: str) -> set[tuple[str, date]]:
        """Return the tables and days that other imports of the site have. Raises Unavailable."""
        found: set[tuple[str, date]] = set()
        with reading(self._database):
            for table in AGGREGATE_TABLES:
                which = {"site_id": site_id, "table": table, "import_id": {"$ne": import_id}}
                found |= {(table, date.fromisoformat(day)) for day in self._days.distinct("day", which)}
        return found

    def extent(self, site_ids: Sequence[str]) -> tuple[datetime, datetime] | None:
        """Return when the first and the last day of any of these sites begin. None without one. Raises Unavailable."""
        found: list[datetime] = []
        with reading(self._database):
            for site_id in site_ids:
                for direction in (ASCENDING, DESCENDING):
                    edge = self._days.find_one({"site_id": site_id}, {"starts_at": 1}, sort=[("starts_at", direction)])
                    found += [edge["starts_at"]] if edge else []
        return (min(found), max(found)) if found else None

    def days(self, site_id: str, table: AggregateTable, first: date, last: date) -> dict[date, str]:
        """Return the days from `first` to `last` that the table has, and the import that counts for each. Raises
        Unavailable.
        """
        which = {"site_id": site_id, "table": table.name, "day": {"$gte": f"{first}", "$lte": f"{last}"}}
        asked = [{"$match": which}, {"$group": {"_id": "$day", "import_id": {"$min": "$import_id"}}}]
        with reading(self._database):
            found = {date.fromisoformat(x["_id"]): x["import_id"] for x in self._days.aggregate(asked)}
        return {day: found[day] for day in sorted(found)}

    def sums(
        self,
        site_id: str,
        table: AggregateTable,
        days: Mapping[date, str],
        columns: Sequence[str],
        *,
        most: int,
        prop: str = "",
    ) -> list[dict[str, Any]]:
        """Return the sums of the table's counts over these days, by these columns, of which `day` may be one. Each has
        the columns that are known, and the counts. `prop`: only of this property. Raises Unavailable, and TooManyTotals
        if there are more than `most` sums, or more than _MOST_TEXT.
        """
        by_import: dict[str, list[str]] = {}
        for day, import_id in days.items():
            by_import.setdefault(import_id, []).append(f"{day}")
        alternatives = [{"import_id": name, "day": {"$in": each}} for name, each in by_import.items()]
        key = {name: f"${name}" for name in columns}
        which = {"site_id": site_id, "table": table.name, "$or": alternatives, **({"prop": prop} if prop else {})}
        asked: list[dict[str, Any]] = [
            {"$match": which},
            {"$group": {"_id": key, **{name: {"$sum": f"$counts.{name}"} for name in sorted(table.counts)}}},
            {"$limit": most + 1},
        ]
        found: list[dict[str, Any]] = []
        text = 0
        with reading(self._database):
            for document in self._days.aggregate(asked):
                group = {name: value for name, value in document.pop("_id").items() if value is not None}
                text += sum(map(len, group.values()))
                if len(found) == most or text > _MOST_TEXT:
                    raise TooManyTotals
                found.append(group | document)
        return found

    def count(self, import_id: str) -> int:
        """Count the totals of an import. Raises Unavailable."""
        with reading(self._database):
            return self._days.count_documents({"import_id": import_id})

    def remove(self, import_id: str) -> Iterator[int]:
        """Remove the totals of an import, and yield the number of each group of them. Raises Unavailable."""
        return self._remove({"import_id": import_id})

    def count_old(self, site_id: str, before: datetime) -> int:
        """Count the totals of the site's days that began before `before`. Raises Unavailable."""
        with reading(self._database):
            return self._days.count_documents(_older(site_id, before))

    def site_ids(self) -> list[str]:
        """Return the sites that have totals, from the index alone. Raises Unavailable."""
        with reading(self._database):
            return list(self._days.distinct("site_id"))

    def remove_old(self, site_id: str, before: datetime) -> Iterator[int]:
        """Remove the totals of the site's days that began before `before`, and yield the number of each group of them.
        Raises Unavailable.
        """
        return self._remove(_older(site_id, before))

    def _remove(self, which: Mapping[str, Any]) -> Iterator[int]:
        while True:
            with writing(self._database):
                ids = [x["_id"] for x in self._days.find(which, {"_id": 1}).limit(_REMOVED_AT_ONCE)]
                if not ids:
                    return
                removed = self._days.delete_many({"_id": {"$in": ids}}).deleted_count
            yield removed

    def _prepare(self) -> None:
        if self._prepared:
            return
        with writing(self._database):
            self._days.create_index(_BY_DAY, name="site_table_day")
            self._days.create_index([("site_id", ASCENDING), ("starts_at", ASCENDING)], name="site_start")
            self._days.create_index("import_id", name="import")
        self._prepared = True


def _older(site_id: str, before: datetime) -> dict[str, Any]:
    return {"site_id": site_id, "starts_at": {"$lt": before}}


def _to_document(import_id: str, site_id: str, zone: ZoneInfo, total: DayTotal) -> dict[str, Any]:
    name = "\0".join((site_id, import_id, total.table, f"{total.day}", total.key))
    return {
        "_id": Binary(sha256(name.encode(errors="surrogatepass")).digest()[:16]),
        "import_id": import_id,
        "site_id": site_id,
        "table": total.table,
        "day": f"{total.day}",
        "starts_at": datetime(total.day.year, total.day.month, total.day.day, tzinfo=zone),
        **total.group,
        "counts": dict(total.counts),
    }
