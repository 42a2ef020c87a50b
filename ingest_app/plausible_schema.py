"""Translates the JSON of Plausible's Events API into events. Pure.

Callers must handle InvalidEvent. It has Plausible's error messages, by field.

Source: plausible.io/docs/events-api. The short names are those of Plausible's script. `m` and `meta` are those of older
scripts.
"""

import json
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from analytics.events.coercion import (
    NO_TEXT,
    NOT_BLANK,
    forwarded,
    money,
    name_of,
    props,
    text,
    whole_number,
    without_nothing,
)
from analytics.events.page_urls import is_page_url
from analytics.events.schema import InvalidEvent
from analytics.json_schema import ANYTHING, FLAG, TEXT, Json, an_object, any_of, just, loosely, one_of, whole
from analytics.json_schema import text as json_text
from analytics.urls import Url, split_url

LONGEST_EVENT_NAME = 120
MOST_DOMAINS = 100  # each domain needs a look-up
_LONGEST_URL = 2000  # bytes
PLAUSIBLE_NAMES = {"site_id": "domain", "event_type": "event_name"}
A_DAY = 86_400_000  # milliseconds

PROPS_TOO_LONG = "keys should have at most 300 bytes and values at most 2000 bytes"
NO_ENGAGEMENT = "engagement event requires a valid integer value for at least one of 'sd' or 'e' fields"


def _in_bytes(most: int, least: int = 0) -> Json:
    """A text of at most `most` bytes of UTF-8. A character takes up to four bytes."""
    return any_of(json_text(least, most, "^[ -~]*$"), json_text(least, most // 4))


_WITH_HOST = "^https?://[a-z]{1,20}/[!-~]{0,100}$"
_PROPS = {
    "type": "object",
    "propertyNames": _in_bytes(300),
    "additionalProperties": any_of(_in_bytes(2000), NO_TEXT),
}
PLAUSIBLE_BODY = an_object(
    {
        "n": any_of(json_text(longest=LONGEST_EVENT_NAME, pattern=NOT_BLANK), {"type": "number"})
        | {"description": "`pageview`, `engagement` or the name of a custom event. Also accepted as `name`."},
        "u": any_of(json_text(pattern=_WITH_HOST), json_text(pattern=r"^/[^/\[\]]{0,400}$"))
        | {"description": "The URL of the page. Also accepted as `url`."},
    },
    {
        "d": json_text(longest=128, pattern=r"[^\s,\u001c-\u001f\u0085]")
        | {"description": "Domains. Also accepted as `domain`. The default is the host of the URL."},
        "r": loosely(TEXT | {"description": "Referrer. Also accepted as `referrer`."}),
        "p": any_of(_PROPS, TEXT, {"type": ["array", "boolean", "null", "number"]})
        | {"description": "Properties, as an object or as a string of JSON. Also accepted as `props`."},
        "$": loosely(
            an_object({"amount": ANYTHING, "currency": TEXT}, description="Revenue. Also accepted as `revenue`.")
        ),
        "i": loosely(
            FLAG
            | {"description": "Whether the event is an interaction of the visitor. Also accepted as `interactive`."}
        ),
        "h": loosely(
            one_of(0, 1) | {"description": "If 1, the path of the page includes the hash. Also accepted as `hashMode`."}
        ),
        "e": loosely(whole(0, A_DAY, description="Engagement time in milliseconds")),
        "sd": loosely(whole(0, 100, description="Scroll depth of the page in percent")),
    },
    allOf=[
        any_of(
            {"not": {"properties": {"n": just("engagement")}}},
            {"required": ["e"], "properties": {"e": whole(0, A_DAY)}},
            {"required": ["sd"], "properties": {"sd": whole(0, 100)}},
        ),
        any_of({"required": ["d"]}, {"properties": {"u": json_text(pattern=_WITH_HOST)}}),
    ],
)


@dataclass(frozen=True, slots=True)
class PlausibleEvent:
    """One event for each of `domains`.

    `event`: the JSON object that analytics/events/schema.py loads, without its site_id.
    """

    domains: list[str]
    event: dict[str, Any]


def read_plausible(body: object, forwarded_for: str = "") -> PlausibleEvent:
    """Translates a body. `forwarded_for`: X-Forwarded-For, in which a relay names the visitor. Raises InvalidEvent."""
    if not isinstance(body, dict):
        raise InvalidEvent({"body": ["Not a JSON object."]})
    name, given = _name_in(body), _url_in(body)
    url = split_url(given)
    is_engagement = name == "engagement"
    event = {
        "event_type": name,
        "url": given,
        "path": _hash_path(url) if _given(body, "h", "hashMode") in (1, "1", True) else None,
        "referrer": text(_given(body, "r", "referrer"), 2000),
        "props": _props_in(body),
        "revenue": _revenue_in(body),
        "interactive": None if _given(body, "i", "interactive") is not False else False,
        "engagement_time": whole_number(body.get("e"), A_DAY) if is_engagement else None,
        "scroll_depth": whole_number(body.get("sd"), 100) if is_engagement else None,
        "ip": forwarded(forwarded_for),
    }
    if is_engagement and event["engagement_time"] is None and event["scroll_depth"] is None:
        raise InvalidEvent({"event_name": [NO_ENGAGEMENT]})
    return PlausibleEvent(_domains_in(body, url), without_nothing(event))


def _given(body: dict[str, Any], *names: str) -> Any:
    return next((body[name] for name in names if body.get(name) is not None), None)


def _name_in(body: dict[str, Any]) -> str:
    name = name_of(_given(body, "n", "name"))
    if not name:
        raise InvalidEvent({"event_name": ["can't be blank"]})
    if len(name) > LONGEST_EVENT_NAME:
        raise InvalidEvent({"event_name": [f"should be at most {LONGEST_EVENT_NAME} character(s)"]})
    return name


def _url_in(body: dict[str, Any]) -> str:
    given = text(_given(body, "u", "url"), 2**20)
    if not given:
        raise InvalidEvent({"url": ["is required"]})
    if len(given.encode()) > _LONGEST_URL:
        raise InvalidEvent({"url": [f"should be at most {_LONGEST_URL} byte(s)"]})
    if not is_page_url(given):
        raise InvalidEvent({"url": ["must be a valid url"]})
    if split_url(given).scheme == "data":
        raise InvalidEvent({"url": ["scheme is not allowed"]})
    return given


def _domains_in(body: dict[str, Any], url: Url) -> list[str]:
    given = text(_given(body, "d", "domain"), 2**20) or url.host
    domains = dict.fromkeys(domain.strip().removeprefix("www.") for domain in given.split(","))
    if not (found := [domain for domain in domains if domain]):
        raise InvalidEvent({"domain": ["can't be blank"]})
    if len(found) > MOST_DOMAINS:
        raise InvalidEvent({"domain": [f"should be at most {MOST_DOMAINS} domain(s)"]}, "too_many_sites")
    return found


def _hash_path(url: Url) -> str | None:
    """The page's path with hash routing: the part after the # belongs to the path."""
    return f"{unquote(url.path) or '/'}#{unquote(url.fragment)}"[:2048] if url.fragment else None


def _props_in(body: dict[str, Any]) -> dict[str, Any]:
    given = _object_in(body, "p", "props", "m", "meta")
    scalars = {name: value for name, value in given.items() if not isinstance(value, dict | list)}
    for name, value in scalars.items():
        if len(name.encode(errors="replace")) > 300 or len(str(value).encode(errors="replace")) > 2000:
            raise InvalidEvent({"props": [PROPS_TOO_LONG]})
    return props(scalars)


def _revenue_in(body: dict[str, Any]) -> dict[str, object] | None:
    given = _object_in(body, "$", "revenue")
    return money(given.get("amount"), given.get("currency"))


def _object_in(body: dict[str, Any], *names: str) -> dict[str, Any]:
    """An object, or the object in a JSON string. Other values become an empty object."""
    given = _given(body, *names)
    if isinstance(given, str):
        with suppress(ValueError, RecursionError):
            given = json.loads(given)
    return given if isinstance(given, dict) else {}
