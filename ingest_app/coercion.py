"""What the translations of other systems' formats share: their values in the form that analytics/events/schema.py
takes. Pure.

Their clients cannot mend what we refuse, so what is too long is cut and what is no value of its kind is left out. Only
an event's own name, or a missing site, is worth a no.
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
from analytics.events.schema import EARLIEST, INT64, LATEST_SENT, MOST_PROPS, Moment, MoneyField

# Of networks that are not the Internet.
INNER = [ip_network(each) for each in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10",
         "127.0.0.0/8", "169.254.0.0/16", "::1/128", "fc00::/7", "fe80::/10")]  # fmt: skip
MOST_PROXIES = 10  # between a visitor and us; a header has room for thousands
_LONGEST_URL = 8192
MOST_SPACES = 100  # before a value
_LONGEST_NAME = 300  # of a property
LONGEST_VALUE = 2000  # likewise
DEEPEST = 5  # objects within objects; what is deeper stays JSON


def text(value: object, longest: int) -> str | None:
    """None for what is no text, or empty. Cut before anything else: one value may be that of thousands of events."""
    if not isinstance(value, str):
        return None
    return storable(value[: longest + MOST_SPACES].strip()[:longest]) or None


def name_of(value: object) -> str | None:
    """An id or a name, which some clients write as a number."""
    return text(str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value, 2**20)


def id_of(value: object, longest: int) -> str | None:
    """An id as `name_of` reads it. A longer one becomes its SHA-256: a part of it may be another id."""
    given = name_of(value)
    return given if given is None or len(given) <= longest else sha256(given.encode()).hexdigest()


def whole_number(value: object, most: int) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= most else None


def address(value: object) -> str | None:
    """An IP address; None for what is none, and for 0.0.0.0, by which clients say that they keep it to themselves."""
    found = plain_address(value) if isinstance(value, str) else ""
    return found if found and not ip_address(found).is_unspecified else None


def forwarded(addresses: str) -> str | None:
    """The first of X-Forwarded-For that is of the Internet: an office's own proxy puts an inner one before it."""
    said = map(address, addresses.split(",", MOST_PROXIES)[:MOST_PROXIES])
    return next((each for each in said if each and not _is_inner(each)), None)


def _is_inner(plain: str) -> bool:
    found = ip_address(plain)
    return any(found in network for network in INNER)


def moment(*values: object) -> datetime | None:
    """The first of these that is a time which `timestamp` may say."""
    for value in values:
        with suppress(ValidationError):
            found: datetime = _moment.deserialize(value)
            return found
    return None


def moment_of_seconds(value: object) -> datetime | None:
    """From a Unix time, as number or digits, or from what `timestamp` may say."""
    if found := moment(value):
        return found
    try:  # of fewer digits than a timestamp has today
        seconds = datetime.fromtimestamp(int(value), UTC) if isinstance(value, str | int | float) else None
    except (ValueError, OverflowError, OSError):
        return None
    return seconds if seconds and EARLIEST <= seconds < LATEST_SENT else None


def money(amount: object, currency: object) -> dict[str, object] | None:
    """Revenue; None for what is none."""
    found = {"amount": amount, "currency": currency.strip().upper() if isinstance(currency, str) else None}
    try:
        _money.deserialize(found)
    except ValidationError:
        return None
    return found


def page(url: object, hostname: object = None) -> dict[str, str]:
    """What tells an event's page: its URL, or its path where there is no hostname; a worker reads either, with what its
    query says of a campaign (analytics/events/page_urls.py).
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
    """The properties of an event, from objects of any depth: at most 30, the first ones. `{"a": {"b": 1}}` becomes
    `a.b`, a list its JSON; null and "" are left out.
    """
    found: dict[str, Scalar] = {}
    for source in sources:
        for name, value in _leaves(source if isinstance(source, Mapping) else {}):
            if len(found) == MOST_PROPS:
                return found
            if (key := text(name.replace("\0", ""), _LONGEST_NAME)) and (scalar := _scalar(value)) is not None:
                found.setdefault(key, scalar)
    return found


def without_nothing(event: Mapping[str, Any]) -> dict[str, Any]:
    """Null, "" and {} are the same as left out."""
    return {name: value for name, value in event.items() if value not in (None, "", {})}


def _leaves(source: Mapping[str, object], prefix: str = "", depth: int = 1) -> Iterator[tuple[str, object]]:
    """Their names cut, or each would be as long as the longest of those around it."""
    for name, value in source.items():
        way = f"{prefix}{name[:_LONGEST_NAME]}"[:_LONGEST_NAME]
        if isinstance(value, Mapping) and depth < DEEPEST:
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
    """As JSON; None for what was just shallow enough to be read."""
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    except RecursionError:
        return None


_money = MoneyField()
_moment = Moment()
