"""What an importer of another system's files consists of. Pure.

A module of this package describes one format as an ImportFormat: it recognises the format, reads rows, and translates
a row into events. The table is in analytics/imports/formats.py.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from msgspec import MsgspecError, Struct

from analytics.aggregates.day_total import DayTotal
from analytics.enrichment.geolocation import place_said
from analytics.imports.source import Head, SourceFile
from analytics.visitors.client import Client

NOBODY = Client()
_REMEMBERED, _LONGEST_REMEMBERED = 10_000, 500  # descriptions, characters of one
# What a format raises for a value of another type or form than its system writes.
MISREAD = (
    ArithmeticError,
    AttributeError,
    LookupError,
    MsgspecError,
    OSError,
    RecursionError,
    TypeError,
    ValueError,
)


class SourceEvent(Struct, frozen=True, gc=False):
    """An event of another system. `body` is the JSON object that analytics/events/schema.py loads, without a site_id.
    Its times may also be datetimes in UTC.

    `visitor` is the other system's id of an anonymous visitor, or "". `client` is the visitor's address and user agent,
    if the other system has them. `owner` is the site in the other system, or "".
    """

    body: dict[str, Any]
    visitor: str = ""
    client: Client = NOBODY
    owner: str = ""


@dataclass(frozen=True, slots=True)
class SkippedRow:
    """Why a row, or a part of a row, is not imported: a fixed word, by which it is counted."""

    reason: str


@dataclass(frozen=True)
class ImportFormat:
    """A format. `title` and `mapping` (their names to ours) are shown to the operator.

    `recognises`: whether a file that begins so is of this format. `read`: yields the rows of all files, in the same
    order each time. `translate`: turns a row into events. `recognises` and `translate` may raise MISREAD. `is_export`:
    the rows are events that Footfall exported, with all of their fields. `is_daily`: the rows become daily totals, not
    events.
    """

    name: str
    title: str
    mapping: Mapping[str, str]
    recognises: Callable[[Head], bool]
    read: Callable[[Sequence[SourceFile]], Iterator[Any]]
    translate: Callable[[Any], Iterable[SourceEvent | DayTotal | SkippedRow]]
    is_export: bool = False
    is_daily: bool = False


def rows_of(files: Sequence[SourceFile]) -> Iterator[dict[str, Any]]:
    """Yield the rows of JSON and Parquet files."""
    return (row for file in files for row in file.rows())


def described_place(country: object, region: object = None, city: object = None) -> dict[str, str | None]:
    """The fields of a place, from a country's code, a region's code with or without the country, and a city's name.
    An invalid code is left out.
    """
    said = {"country": country, "region": region, "city": city}
    place = place_said({name: value for name, value in said.items() if isinstance(value, str)})
    return {"country": place.country, "region": place.region, "city": place.city} if place else {}


def remembering(describe: Callable[..., Mapping[str, Any]]) -> Callable[..., Mapping[str, Any]]:
    """Return the function with a memory of what it returned for the same short texts: many events are of one visitor.
    Its result must not be changed.
    """
    remembered = lru_cache(_REMEMBERED)(describe)

    def described(*said: Any) -> Mapping[str, Any]:
        try:
            is_short = len("".join(said)) <= _LONGEST_REMEMBERED
        except TypeError:  # not only texts
            return describe(*said)
        return remembered(*said) if is_short else describe(*said)

    return described


def in_utc(written: str) -> datetime:
    """Read a time in ISO 8601, which is UTC if it has no offset. Raises ValueError."""
    moment = datetime.fromisoformat(written.strip())
    if moment.tzinfo is UTC:
        return moment
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
