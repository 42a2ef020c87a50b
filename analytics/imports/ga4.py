"""Google Analytics 4: the tables events_* of its export to BigQuery, as JSON or Parquet. Pure.

Source: support.google.com/analytics/answer/7029846. BigQuery writes whole numbers in JSON as text, and lists in Parquet
either plain or as {"list": [{"element": ...}]}. A row has no id.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import msgspec
import pycountry
from msgspec import MsgspecError

from analytics.events.coercion import id_of, money, page, props, text, without_nothing
from analytics.imports.format import ImportFormat, SkippedRow, SourceEvent, described_place, remembering, rows_of
from analytics.imports.source import Head, SourceFile, keyed

# Google's script sends these by itself. They describe a visit or a page that has its own event.
_AUTOMATIC = ("first_visit", "session_start", "user_engagement", "scroll")
_DEVICES = {"desktop": "Desktop", "mobile": "Mobile", "tablet": "Tablet", "smart tv": "TV"}
_SYSTEMS = {"Macintosh": "macOS"}
_OURS = {"click": "Outbound Link: Click", "file_download": "File Download", "page_view": "pageview"}
_UTM = {"utm_source": "manual_source", "utm_medium": "manual_medium", "utm_campaign": "manual_campaign_name",
        "utm_content": "manual_content", "utm_term": "manual_term"}  # fmt: skip
_HELD = ("page_location", "page_referrer", "page_title", "currency", "ga_session_id", "ga_session_number", "entrances",
         "session_engaged", "engagement_time_msec", "engaged_session_event", "batch_ordering_id", "batch_page_id",
         "ignore_referrer", "source", "medium", "campaign", "term", "content", "gclid", "debug_mode")  # fmt: skip
_SORTED = json.JSONEncoder(sort_keys=True, default=str).encode
_sorted = msgspec.json.Encoder(order="sorted").encode
_TO_ZEROS = bytes.maketrans(b"-123456789", b"0" * 10)


def recognises(head: Head) -> bool:
    names = head.item.keys() or head.columns
    return {"event_name", "event_timestamp", "event_params", "user_pseudo_id"} <= names


def read(files: Sequence[SourceFile]) -> Iterator[tuple[str, dict[str, Any]]]:
    return keyed(rows_of(files), _text_of)


def translate(row: tuple[str, Mapping[str, Any]]) -> Iterator[SourceEvent | SkippedRow]:
    key, hit = row
    name = str(hit["event_name"])
    if name in _AUTOMATIC:
        yield SkippedRow("automatic_event")
        return
    given = _parameters(hit["event_params"])
    own = {key: value for key, value in given.items() if key not in _HELD}
    moment = datetime.fromtimestamp(int(hit["event_timestamp"]) / 1_000_000, UTC)
    event = page(given.get("page_location")) | {
        "event_type": _OURS.get(name) or text(name, 128),
        "event_id": f"ga4:{key}",
        "timestamp": moment,
        "user_id": id_of(hit.get("user_id"), 256),
        "referrer": text(given.get("page_referrer"), 2048),
        "revenue": _revenue(hit, given),
        "props": props({"title": given.get("page_title")}, own),
        **_described(hit),
    }
    owner = str(hit.get("stream_id") or "")
    yield SourceEvent(without_nothing(event), visitor=str(hit.get("user_pseudo_id") or ""), owner=owner)


def _text_of(row: Mapping[str, Any]) -> str:
    """The row as Python's json writes it, with sorted names. The keys of earlier imports depend on each character."""
    try:
        return _fast_text_of(row) or _SORTED(row)
    except RecursionError:  # it is nested too deeply, and not a row of Google's
        return ""


def _fast_text_of(row: Mapping[str, Any]) -> str | None:
    """The same text in a third of the time. None if msgspec may write it differently: characters that json escapes,
    numbers with an exponent, and NaN, which only Parquet has. Times are text only in JSON.
    """
    if type(row.get("event_timestamp")) is not str:
        return None
    try:
        raw = msgspec.json.format(_sorted(row), indent=0)
    except (MsgspecError, UnicodeEncodeError, TypeError):
        return None
    zeros = raw.translate(_TO_ZEROS)
    has_exponent = b"0e0" in zeros or b"0.0000" in zeros
    return raw.decode() if raw.isascii() and b"\x7f" not in raw and not has_exponent else None


def _parameters(listed: Any) -> dict[str, Any]:
    items = listed.get("list", ()) if isinstance(listed, dict) else listed or ()
    found = {}
    for item in items:
        each, given = item.get("element", item), None
        for given in (each.get("value") or {}).values():
            if given is not None:
                break
        found[str(each["key"])] = given
    return found


def _revenue(hit: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, object] | None:
    sold = hit.get("ecommerce") or {}
    amount = sold.get("purchase_revenue") if hit["event_name"] == "purchase" else None
    return money(amount, given.get("currency"))


def _described(hit: Mapping[str, Any]) -> Mapping[str, str | None]:
    device, geo, source = (hit.get(name) or {} for name in ("device", "geo", "collected_traffic_source"))
    web = device.get("web_info") or {}
    return _of_texts(
        web.get("browser") or device.get("browser") or "",
        web.get("browser_version") or device.get("browser_version") or "",
        *(device.get(name) or "" for name in ("operating_system", "operating_system_version", "category", "language")),
        geo.get("country") or "",
        geo.get("city") or "",
        *(source.get(name) or "" for name in _UTM.values()),
    )


@remembering
def _of_texts(*said: str) -> dict[str, str | None]:
    browser, browser_version, system, system_version, device, language, country, city, *utm = said
    name = text(system, 128)
    return {parameter: text(value, 255) for parameter, value in zip(_UTM, utm, strict=True)} | {
        "browser": text(browser, 128),
        "browser_version": text(browser_version, 128),
        "os": _SYSTEMS.get(name or "", name),
        "os_version": text(system_version, 128),
        "device": _DEVICES.get(str(device).lower()),
        "language": text(language, 35),
        **described_place(_code_of(str(country)[:100]), None, city),
    }


@lru_cache(1000)
def _code_of(country: str) -> str | None:
    """The code of a country by its English name."""
    try:
        found: Any = pycountry.countries.lookup(country)
    except LookupError:
        return None
    return str(found.alpha_2)


GA4_EXPORT = ImportFormat(
    name="ga4",
    title="Google Analytics 4 (BigQuery's tables events_*)",
    mapping={
        "page_view": "pageview",
        "click, file_download": "Outbound Link: Click, File Download",
        "an event of your own": "an event of that type",
        "purchase": "purchase, with its revenue",
        "user_pseudo_id": "visitor_id, hashed",
        "user_id": "user_id",
        "page_location, page_referrer": "the page, referrer",
        "device, geo.country, geo.city": "the same, by our names",
        "event_params": "props",
        "session_start, user_engagement, ...": "not imported",
    },
    recognises=recognises,
    read=read,
    translate=translate,
)
