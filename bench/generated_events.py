"""The events that bench/report_data.py makes up, as the columns from which segments are built.

Ten million events in MongoDB take 20 minutes, and these columns take none: a builder reads them instead of raw events.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
from pymongo.database import Database

from analytics.events.columns import RAW, RawEvents, visitor_of
from analytics.events.event import DESCRIBED
from analytics.interval import Interval
from bench.report_data import texts, user_id

ORIGIN = ("referrer", "source", "channel", "utm_medium", "utm_source", "utm_campaign")
KIND = ("device", "browser", "browser_version", "os", "os_version", "country", "region", "city", "language")
_ROWS = f"""
SELECT occurred, (chance & 4095) << 4 | (chance >> 12 & 15) AS tie, visitors.id AS visitor,
  CASE WHEN NOT custom THEN 'pageview' WHEN purchase THEN 'purchase' ELSE 'click-' || chance % 8 END AS name,
  path AS page, 'www.example.com' AS hostname, true AS interactive, NULL AS engagement_time, NULL AS scroll_depth,
  CASE WHEN purchase THEN (chance // 10 % 200000)::DECIMAL(18, 3) / 100 END AS revenue,
  CASE WHEN purchase THEN 'EUR' END AS currency,
  CASE WHEN chance % 10 = 3 THEN MAP {{'plan': ['free', 'pro', 'team'][1 + (chance // 10 % 3)::BIGINT],
    'logged_in': (chance % 4 = 0)::VARCHAR}} END AS props,
  {", ".join(name if name in (*ORIGIN, *KIND) else f"NULL AS {name}" for name in DESCRIBED)}
FROM (SELECT * EXCLUDE (origin), coalesce(origin, 1) AS origin, custom AND chance % 10 = 0 AS purchase
  FROM read_parquet($file) WHERE occurred >= $start AND occurred < $end)
JOIN visitors USING (visitor) JOIN pages USING (page) JOIN kinds USING (kind) JOIN origins USING (origin)
ORDER BY occurred
"""
_AT_ONCE = 20_000  # rows


class GeneratedEvents(RawEvents):
    """RawEvents of a file instead of MongoDB. `file` is from report_data.make_up, with `seed` and `visitors`."""

    def __init__(self, database: Database[dict[str, Any]], file: Path, seed: int, visitors: int) -> None:
        super().__init__(database)
        self._file = str(file)
        self._connection = duckdb.connect(config={"memory_limit": "500MB", "threads": 2})
        register_texts(self._connection, seed)
        ids = [visitor_of(user_id(number)) for number in range(visitors)]
        table = pa.table({"visitor": range(visitors), "id": pa.array(ids, pa.uint64())})
        self._connection.register("visitors", table)

    def _read(self, _: str, intervals: Sequence[Interval]) -> Iterator[pa.RecordBatch]:
        for interval in intervals:
            given = {"file": self._file, "start": interval.start, "end": interval.end}
            with self._connection.sql(_ROWS, params=given).to_arrow_reader(_AT_ONCE) as found:
                yield from (batch.cast(RAW) for batch in found)


def register_texts(connection: duckdb.DuckDBPyConnection, seed: int) -> None:
    """Register `pages`, `kinds` and `origins`, whose texts are NULL where an event has none."""
    pages, kinds, origins = texts(seed)
    for name, key, rows in (
        ("pages", "page", [{"path": page} for page in pages]),
        ("kinds", "kind", kinds),
        ("origins", "origin", [dict.fromkeys(ORIGIN) | origin for origin in origins]),
    ):
        connection.register(name, pa.Table.from_pylist([{key: n, **row} for n, row in enumerate(rows, start=1)]))
