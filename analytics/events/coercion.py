"""Converts values of other systems' formats to the form that analytics/events/schema.py takes. Pure.

The clients of other systems cannot correct what the collector rejects. Therefore a value that is too long is cut, and a
value that is not of the expected kind is left out. Only an invalid event name or a missing site rejects an event.
"""

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from hashlib import sha256
from ipaddress import ip_address, ip_network
from typing import Any

from marshmallow import ValidationError

from analytics.addresses import plain_address
from analytics.events.event import Scalar, storable
from analytics.events.page_urls import WHOLE_URL, is_page_url
from analytics.events.schema import MOST_PROPS, MoneyField
from analytics.json_schema import Json
from analytics.schema_fields import EARLIEST, INT64, LATEST_SENT, Moment

# Private, shared, loopback and link-local networks: they are not part of the Internet.
INNER = [ip_network(each) for each in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10",
         "127.0.0.0/8", "169.254.0.0/16", "::1/128", "fc00::/7", "fe80::/10")]  # fmt: skip
MOST_PROXIES = 10  # between a visitor and this server; a header has room for thousands
_LONGEST_URL = 8192
MOST_SPACES = 100  # leading spaces of a value that are stripped
_LONGEST_NAME = 300  # characters of a property's name
LONGEST_VALUE = 2000  # characters of a property's value
# For descriptions of bodies.
NOT_BLANK = r"[^\s\u001c-\u001f\u0085]"
NO_TEXT: Json = {"type": ["array", "boolean", "null", "number", "object"]}
DEEPEST = 5  # levels of nested objects; deeper ones stay JSON


def object_of(value: object) -> dict[str, Any]:
    """The value, or an empty object if it is none."""
    return value if isinstance(value, dict) else {}


def text(value: object, longest: int) -> str | None:
    """A stripped text of at most `longest` characters. None if the value is not a text, or is empty.

    The value is cut first: one value may belong to thousands of events.
    """
    if type(value) is str and len(value) <= longest and value.isascii():
        return value.strip() or None
    if not isinstance(value, str):
        return None
    return storable(value[: longest + MOST_SPACES].strip()[:longest]) or None


def name_of(value: object) -> str | None:
    """An id or a name. Some clients write it as a number."""
    return text(str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value, 2**20)


def id_of(value: object, longest: int) -> str | None:
    """An id as `name_of` reads it. A longer id becomes its SHA-256, because a cut id may equal another id."""
    given = name_of(value)
    return given if given is None or len(given) <= longest else sha256(given.encode()).hexdigest()


def whole_number(value: object, most: int) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= most else None


def address(value: object) -> str | None:
    """An IP address. None for other values, and for 0.0.0.0, which clients send to withhold the address."""
    found = plain_address(value) if isinstance(value, str) else ""
    return found if found and not ip_address(found).is_unspecified else None


def forwarded(addresses: str) -> str | None:
    """The first address of X-Forwarded-For that is on the Internet.

    A proxy in an office puts a private address first.
    """
    said = map(address, addresses.split(",", MOST_PROXIES)[:MOST_PROXIES])
    return next((each for each in said if each and not _is_inner(each)), None)


def _is_inner(plain: str) -> bool:
    found = ip_address(plain)
    return any(found in network for network in INNER)


def moment(*values: object) -> datetime | None:
    """The first of these values that is a valid `timestamp`. None if there is none."""
    for value in values:
        if isinstance(value, str | int | float):  # marshmallow takes 5 µs to reject a missing one
            with suppress(ValidationError):
                found: datetime = _moment.deserialize(value)
                return found
    return None


def moment_of_seconds(value: object) -> datetime | None:
    """A time from a Unix time in seconds, as a number or digits, or from a valid `timestamp`. None for other values."""
    if found := moment(value):
        return found
    # This branch handles a Unix time with fewer digits than a current one has.
    try:
        seconds = datetime.fromtimestamp(int(value), UTC) if isinstance(value, str | int | float) else None
    except (ValueError, OverflowError, OSError):
        return None
    return seconds if seconds and EARLIEST <= seconds < LATEST_SENT else None


def money(amount: object, currency: object) -> dict[str, object] | None:
    """Revenue. None if amount or currency is invalid."""
    if amount is None:
        return None
    found = {"amount": amount, "currency": currency.strip().upper() if isinstance(currency, str) else None}
    try:
        _money.deserialize(found)
    except ValidationError:
        return None
    return found


def page(url: object, hostname: object = None) -> dict[str, str]:
    """The fields that name an event's page: `url`, or `path` if there is no hostname. Empty if there is no valid page.

    A worker reads either of them, and the campaign parameters of its query (analytics/events/page_urls.py).
    """
    given = text(url, _LONGEST_URL)
    if given is None:
        return {}
    is_url = is_page_url(given)
    if not is_url and WHOLE_URL.match(given):
        return {}
    if is_url and not given.startswith("/"):
        return {"url": given}
    path = given if given.startswith("/") else f"/{given}"
    host = text(hostname, 253)
    whole = f"https://{host}{path}"
    return {"url": whole} if host and is_page_url(whole) else {"path": path[:2048]}


def props(*sources: object) -> dict[str, Scalar]:
    """The properties of an event, from objects of any depth: the first 30.

    `{"a": {"b": 1}}` becomes `a.b`, and a list becomes its JSON. null and "" are left out.
    """
    found: dict[str, Scalar] = {}
    for source in sources:
        for name, value in _leaves(source if isinstance(source, Mapping) else {}):
            if len(found) == MOST_PROPS:
                return found
            scalar = text(value, LONGEST_VALUE) if type(value) is str else _scalar(value)
            if scalar is not None and (key := text(name.replace("\0", ""), _LONGEST_NAME)):
                found.setdefault(key, scalar)
    return found


def without_nothing(event: Mapping[str, Any]) -> dict[str, Any]:
    """The event without null, "" and {}: these mean the same as a missing field."""
    return {name: value for name, value in event.items() if value or value not in (None, "", {})}


def _leaves(source: Mapping[str, object], prefix: str = "", depth: int = 1) -> Iterator[tuple[str, object]]:
    """Names and values of nested objects.

    Names are cut: otherwise the name of each value would contain the long names of all objects around it.
    """
    for name, value in source.items():
        way = f"{prefix}{name[:_LONGEST_NAME]}"[:_LONGEST_NAME]
        if type(value) is not str and isinstance(value, Mapping) and depth < DEEPEST:
            yield from _leaves(value, f"{way}.", depth + 1)
        else:
            yield way, value


def _scalar(value: object) -> Scalar:
    match value:
        case bool():
            return value
        case int():
            return value if value in INT64 else str(value)[:LONGEST_VALUE]
        case float():
            return value if math.isfinite(value) else None
        case str():
            return text(value, LONGEST_VALUE)
        case Mapping() | list() if value:
            return text(_written(value), LONGEST_VALUE)
    return None


def _written(value: object) -> str | None:
    """The value as JSON. None if it is nested too deeply to be written, although it could be read."""
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    except RecursionError:
        return None


_money = MoneyField()
_moment = Moment()
