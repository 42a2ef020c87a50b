"""Umami's tables website_event, session and event_data, as CSV with a header. ClickHouse's website_event has the
columns of the first two.

Source: Umami's database schema. Sessions and data are in a temporary SQLite file, because all of them may be larger
than the memory.
"""

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from functools import lru_cache, partial
from typing import Any

from analytics.events.coercion import id_of, money, page, props, text, without_nothing
from analytics.imports.format import ImportFormat, SkippedRow, SourceEvent, described_place, in_utc, remembering
from analytics.imports.source import Head, SourceFile, UnreadableFile

_PAGEVIEW, _CUSTOM = "1", "2"  # event_type
_NUMBER, _BOOLEAN = "2", "3"  # data_type
_TEMPORARY = ""  # the name by which SQLite makes a file that no other process sees and that no kill leaves behind
_REMEMBERED = 10_000  # sessions
_NULL = "\\N"  # as MySQL and ClickHouse write it
_UTM = ("utm_source", "utm_medium", "utm_campaign", "utm_content", "utm_term")
_DESCRIBING = ("browser", "os", "device", "screen", "language", "country", "region", "subdivision1", "city", *_UTM)
_DEVICES = {"desktop": "Desktop", "laptop": "Laptop", "mobile": "Mobile", "tablet": "Tablet"}
# Umami's names, which are those of the package detect-browser.
_BROWSERS = {
    "android": "Android Browser", "chrome": "Chrome", "chromium-webview": "Chrome WebView", "crios": "Chrome",
    "edge": "Edge", "edge-chromium": "Edge", "edge-ios": "Edge", "facebook": "Facebook", "firefox": "Firefox",
    "fxios": "Firefox", "ie": "Internet Explorer", "instagram": "Instagram", "ios": "Safari",
    "ios-webview": "Safari WebView", "miui": "MiuiBrowser", "opera": "Opera", "opera-mini": "Opera Mini",
    "safari": "Safari", "samsung": "Samsung Internet", "silk": "Amazon Silk", "yandexbrowser": "Yandex Browser",
}  # fmt: skip
_SYSTEMS = {"Mac OS": "macOS", "Android OS": "Android", "Chrome OS": "Chrome OS"}


def recognises(head: Head) -> bool:
    return "website_id" in head.columns and _table_of(head) is not None


def read(files: Sequence[SourceFile]) -> Iterator[Mapping[str, Any]]:
    """Yield the rows of website_event, each with the values of its session and its data. Raises UnreadableFile."""
    rows: dict[str | None, list[SourceFile]] = {}
    for file in files:
        rows.setdefault(_table_of(file.head()), []).append(file)
    with closing(sqlite3.connect(_TEMPORARY)) as kept:
        try:
            _load_sessions(kept, (row for file in rows.get("session", ()) for row in file.csv_rows()))
            _load_data(kept, (row for file in rows.get("event_data", ()) for row in file.csv_rows()))
        except sqlite3.Error as error:
            said = f"The tables cannot be kept in a temporary file: {error}. Set SQLITE_TMPDIR to another folder."
            raise UnreadableFile(said) from None
        session_of = lru_cache(_REMEMBERED)(partial(_session_of, kept))  # a session has several events within minutes
        for file in rows.get("website_event", ()):
            for row in file.csv_rows():
                session = session_of(row.get("session_id")) if "session" in rows else {}
                data = _data_of(kept, row.get("event_id")) if "event_data" in rows else {}
                yield {**session, **_filled(row), "data": data}


def translate(row: Mapping[str, Any]) -> Iterator[SourceEvent | SkippedRow]:
    kind = row.get("event_type", _PAGEVIEW)
    if kind not in (_PAGEVIEW, _CUSTOM):
        yield SkippedRow("other_type")
        return
    query, data = row.get("url_query", ""), row.get("data", {})
    revenue = money(data.get("revenue"), data.get("currency"))
    said = {name: value for name, value in data.items() if not (revenue and name in ("revenue", "currency"))}
    event = page(row["url_path"] + (f"?{query}" if query else ""), row.get("hostname")) | {
        "event_type": "pageview" if kind == _PAGEVIEW else text(row.get("event_name"), 128),
        "event_id": f"umami:{row['event_id']}",
        "timestamp": in_utc(row["created_at"]),
        "hostname": text(row.get("hostname"), 253),
        "user_id": id_of(row.get("distinct_id"), 256),
        "referrer": _referrer(row),
        "revenue": revenue,
        "props": props({"title": row.get("page_title"), "tag": row.get("tag")}, said),
        **_described(row),
    }
    yield SourceEvent(without_nothing(event), visitor=row["session_id"], owner=row["website_id"])


def _table_of(head: Head) -> str | None:
    """The table that has these columns. ClickHouse's event_data also has a session_id and an event_id."""
    if "data_key" in head.columns:
        return "event_data" if {"website_event_id", "event_id"} & head.columns else None
    if "session_id" in head.columns:
        return "website_event" if "event_id" in head.columns else "session" if "browser" in head.columns else None
    return None


def _load_sessions(kept: sqlite3.Connection, rows: Iterable[Mapping[str, str]]) -> None:
    kept.execute("CREATE TABLE session (id TEXT PRIMARY KEY, row TEXT) WITHOUT ROWID")
    pairs = ((row.get("session_id"), json.dumps(row)) for row in rows if row.get("session_id"))
    kept.executemany("INSERT OR REPLACE INTO session VALUES (?, ?)", pairs)
    kept.commit()


def _load_data(kept: sqlite3.Connection, rows: Iterable[Mapping[str, str]]) -> None:
    kept.execute("CREATE TABLE data (event TEXT, name TEXT, value TEXT, PRIMARY KEY (event, name)) WITHOUT ROWID")
    values = ((row.get("website_event_id") or row.get("event_id"), row.get("data_key"), _value(row)) for row in rows)
    kept.executemany("INSERT OR REPLACE INTO data VALUES (?, ?, ?)", (each for each in values if all(each)))
    kept.commit()


def _value(row: Mapping[str, str]) -> str:
    """The value as JSON. Umami writes each value as text, and a number with four decimals or more."""
    kind, given = row.get("data_type"), row.get("string_value", "")
    if kind == _BOOLEAN:
        return json.dumps(given == "true")
    if kind == _NUMBER:
        try:
            number = float(row.get("number_value") or given)
        except ValueError:
            return json.dumps(given)
        return json.dumps(int(number) if number.is_integer() else number)
    return json.dumps("" if given == _NULL else given)


def _session_of(kept: sqlite3.Connection, session_id: str | None) -> dict[str, str]:
    found = kept.execute("SELECT row FROM session WHERE id = ?", (session_id,))
    return _filled(json.loads(*next(found, ("{}",))))


def _data_of(kept: sqlite3.Connection, event_id: str | None) -> dict[str, Any]:
    found = kept.execute("SELECT name, value FROM data WHERE event = ?", (event_id,))
    return {name: json.loads(value) for name, value in found}


def _filled(row: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in row.items() if value and value != _NULL}


def _referrer(row: Mapping[str, str]) -> str | None:
    domain, path, query = (row.get(f"referrer_{part}", "") for part in ("domain", "path", "query"))
    return text(f"https://{domain}{path}{'?' if query else ''}{query}", 2048) if domain else None


def _described(row: Mapping[str, str]) -> Mapping[str, str | None]:
    return _of_texts(*(row.get(name, "") for name in _DESCRIBING))


@remembering
def _of_texts(*said: str) -> dict[str, str | None]:
    browser, system, device, screen, language, country, region, subdivision, city, *utm = said
    name, _, version = system.partition(" ") if system.startswith("Windows ") else (system, "", "")
    return {parameter: text(value, 255) for parameter, value in zip(_UTM, utm, strict=True)} | {
        "browser": text(_BROWSERS.get(browser, browser), 128),
        "os": text(_SYSTEMS.get(name, name), 128),
        "os_version": text(version, 128),
        "device": _DEVICES.get(device),
        "screen": text(screen, 11),
        "language": text(language, 35),
        **described_place(country, region or subdivision, city),
    }


UMAMI_TABLES = ImportFormat(
    name="umami",
    title="Umami's tables website_event, session and event_data",
    mapping={
        "event_type 1; 2 with event_name": "pageview; an event of that type",
        "url_path, url_query, hostname": "the page and its campaign",
        "session_id": "visitor_id, hashed",
        "distinct_id": "user_id",
        "referrer_domain, _path, _query": "referrer",
        "browser, os, device, screen": "the same, by our names",
        "country, region, city, language": "the same",
        "page_title, tag": "props.title, props.tag",
        "event_data": "props; revenue with currency: revenue",
    },
    recognises=recognises,
    read=read,
    translate=translate,
)
