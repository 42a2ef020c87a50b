"""Events for `make bench-reports`. DuckDB generates them from a seed, and two writers insert them into `events`.

A visit has 1 to 10 events, 3.5 on average, and the first is a pageview. Pages follow a zipf distribution. The hours of
the day differ. A visitor's device and place stay the same. The source is on the first event of each visit.
"""

import random
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from decimal import Decimal
from multiprocessing import get_context
from pathlib import Path
from struct import pack
from typing import Any

import duckdb
import pyarrow.parquet as pq
from bson import Binary, Decimal128
from bson.binary import UUID_SUBTYPE
from pymongo.write_concern import WriteConcern

from analytics.events.store import INDEXES
from analytics.interval import DAY, HOUR, Interval, as_datetime, as_ms, interval_of
from config.clients import make_database
from config.settings import Settings

MONTH = interval_of("month", as_ms(datetime(2026, 9, 1, tzinfo=UTC)))  # a past month of 30 days
PAGES, KINDS, ORIGINS = 20_000, 2_000, 60
WRITERS = 2
AT_ONCE = 5_000  # documents of an insert_many

# `share`: between 0 and 1, different for each number and purpose. It is a hash of one integer, because DuckDB's hashes
# of several values are similar if the values are.
MADE_UP = f"""
CREATE MACRO chance(n, purpose) AS hash(n * 16 + purpose + $seed * {2**40});
CREATE MACRO share(n, purpose) AS chance(n, purpose) / 18446744073709551616;
COPY (
  WITH visits AS (
    SELECT visit, floor(share(visit, 0) * $visitors)::INTEGER AS visitor,
      floor(share(visit, 1) * $sites)::INTEGER AS site,
      {MONTH.start} + floor(share(visit, 2) * {(MONTH.end - MONTH.start) // DAY})::BIGINT * {DAY}
        + [0, 1, 5, 6, 7, 8, 8, 9, 9, 10, 10, 11, 12, 13, 13, 14, 14, 15, 16, 17, 18, 19, 19, 20, 20, 20, 21, 21, 22,
           23][1 + floor(share(visit, 3) * 30)::INTEGER] * {HOUR}
        + floor(share(visit, 4) * {HOUR})::BIGINT AS start,
      [1, 1, 1, 2, 2, 3, 4, 5, 6, 10][1 + floor(share(visit, 5) * 10)::INTEGER] AS length
    FROM range(($events // 3.4)::BIGINT + 100) AS numbers(visit)
  ), events AS (
    SELECT *, unnest(range(length)) AS nth, visit * 16 + nth AS event FROM visits
  ), timed AS (
    SELECT *, start + coalesce(sum(1000 + floor(share(event, 6) * 300000)::BIGINT) FILTER (nth > 0)
      OVER (PARTITION BY visit ORDER BY nth), 0)::BIGINT AS occurred FROM events
  ), chosen AS (
    SELECT * FROM timed WHERE occurred < {MONTH.end} ORDER BY event LIMIT $events
  )
  SELECT occurred, site, visitor, chance(event, 11) % {2**62} AS chance,
    floor({PAGES} ** share(event, 7))::INTEGER AS page,
    floor({KINDS} ** share(visitor, 8))::INTEGER AS kind,
    CASE WHEN nth = 0 THEN floor({ORIGINS} ** share(visit, 9))::INTEGER END AS origin,
    nth > 0 AND share(event, 10) < 0.07 AS custom
  FROM chosen ORDER BY occurred, event
) TO '$file' (FORMAT parquet, ROW_GROUP_SIZE 122880)
"""


def make_up(file: Path, seed: int, events: int, visitors: int, sites: int = 1) -> None:
    """Writes everything that does not depend on text into a Parquet file, ordered by time.

    `visitors`: the approximate number of visitors of each site.
    """
    text = MADE_UP
    given = {"seed": seed, "events": events, "visitors": visitors, "sites": sites, "file": file}
    for name, value in given.items():
        text = text.replace(f"${name}", str(value))
    with duckdb.connect(config={"temp_directory": str(file.parent), "memory_limit": "4GB"}) as connection:
        connection.execute("SET enable_progress_bar = false")
        connection.execute(text)


def load(uri: str, file: Path, seed: int, site: str) -> None:
    """Inserts the events into `events`.

    `site`: a site_id, with a placeholder for the number if the file has several sites.
    """
    with make_database(Settings(mongodb_uri=uri)).client as client:
        for name, keys in INDEXES.items():
            client.get_default_database()["events"].create_index(keys, name=name)
    with ProcessPoolExecutor(WRITERS, mp_context=get_context("spawn")) as pool:
        for writer in [pool.submit(_write, uri, file, seed, site, number) for number in range(WRITERS)]:
            writer.result()


def _write(uri: str, file: Path, seed: int, site: str, number: int) -> None:
    """Inserts every other row group, so that all writers together insert roughly in order of time, as in production."""
    with make_database(Settings(mongodb_uri=uri)).client as client:
        events = client.get_default_database()["events"].with_options(write_concern=WriteConcern(1))
        source = pq.ParquetFile(file)
        for group in range(number, source.num_row_groups, WRITERS):
            rows = list(documents(source.read_row_group(group).to_pydict(), seed, site))
            for first in range(0, len(rows), AT_ONCE):
                events.insert_many(rows[first : first + AT_ONCE], ordered=False)


def user_id(visitor: int) -> str:
    return f"{visitor * 2654435761 % 2**32:08x}-{visitor:08x}"


def documents(rows: dict[str, list[Any]], seed: int, site: str) -> Iterator[dict[str, Any]]:
    """Documents as analytics/events/store.py writes them: fields in the same order, without missing values."""
    pages, kinds, origins = texts(seed)
    for occurred, number, visitor, chance, page, kind, origin, custom in zip(*rows.values(), strict=True):
        moment = as_datetime(occurred)
        purchase = custom and chance % 10 == 0
        document: dict[str, Any] = {
            "_id": Binary(pack(">QQ", occurred << 16 | 0x7000 | chance & 0xFFF, 1 << 63 | chance), UUID_SUBTYPE),
            "entry_id": f"{occurred + 40}-{chance % 7}",
            "site_id": site.format(number),
            "event_type": ("purchase" if purchase else f"click-{chance % 8}") if custom else "page_view",
            "hostname": "www.example.com",
            "path": pages[page - 1],
            "user_id": user_id(visitor),
        }
        if purchase:
            amount = Decimal(chance // 10 % 200_000).scaleb(-2)
            document["revenue"] = {"amount": Decimal128(amount), "currency": "EUR"}
        if origin:
            document |= origins[origin - 1]
        document |= kinds[kind - 1]
        if chance % 10 == 3:
            document["props"] = {"plan": ("free", "pro", "team")[chance // 10 % 3], "logged_in": chance % 4 == 0}
        document |= {"timestamp": moment, "received_at": moment, "created_at": moment}
        yield document


def texts(seed: int) -> tuple[list[str], list[dict[str, str]], list[dict[str, str]]]:
    """Pages, kinds of visitors and origins of visits. The first are the most frequent."""
    chance = random.Random(seed)
    topics = ("news", "guides", "products", "help", "people", "archive")
    pages = ["/", "/pricing", *(f"/{chance.choice(topics)}/{n:x}-{chance.getrandbits(40):x}" for n in range(PAGES))]
    kinds = [
        {
            "device": chance.choice(("Mobile", "Mobile", "Desktop", "Desktop", "Tablet")),
            "browser": chance.choice(("Chrome", "Chrome", "Chrome", "Safari", "Safari", "Firefox", "Edge")),
            "browser_version": f"{chance.randrange(110, 140)}.0",
            "os": (system := chance.choice(("Windows", "Mac", "iOS", "Android", "GNU/Linux"))),
            "os_version": f"{len(system) + chance.randrange(9)}",
            "country": (country := chance.choice(("US", "US", "US", "DE", "DE", "GB", "FR", "IN", "BR", "JP"))),
            "region": f"{country}-{chance.choice('ABCDEFGH')}",
            "city": f"City {chance.randrange(300)}",
            "language": chance.choice(("en", "en", "de", "fr", "pt", "ja")),
        }
        for _ in range(KINDS)
    ]
    origins: list[dict[str, str]] = [{}]
    for n in range(1, ORIGINS):
        origin = {"referrer": f"https://site-{n}.example/post/{n}", "source": f"Site {n}", "channel": "Referral"}
        if n % 5 == 0:
            origin |= {"channel": "Email", "utm_medium": "email", "utm_source": f"letter-{n}", "utm_campaign": "autumn"}
        origins.append(origin)
    return pages[:PAGES], kinds, origins


def days() -> list[Interval]:
    return [Interval(start, start + DAY) for start in range(MONTH.start, MONTH.end, DAY)]
