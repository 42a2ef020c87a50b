"""Access logs of web servers: Apache's and nginx's combined format, nginx's log in JSON, and Caddy's log. Pure.

A page is a successful GET of a path without the ending of an asset. The address and the user agent reach the worker
sealed, as those of a hit do. The worker drops bots.

Source: httpd.apache.org/docs/current/mod/mod_log_config.html, nginx.org/en/docs/http/ngx_http_log_module.html,
caddyserver.com/docs/logging. In JSON of nginx, the names are those of nginx's variables.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
from msgspec import Struct

from analytics.addresses import plain_address
from analytics.events.coercion import page, text, without_nothing
from analytics.imports.format import ImportFormat, SkippedRow, SourceEvent, in_utc
from analytics.imports.source import Head, SourceFile, keyed
from analytics.visitors.client import Client

_LONGEST_LINE = 65_536  # characters
_QUOTED = r'"(?P<{}>[^"\\]*(?:\\.[^"\\]*)*)"'
# The virtual host is optional, as in Apache's vhost_combined. So are the referrer and the user agent. The user may
# contain spaces, so a second word is the address only if a hyphen follows it.
_LINE = re.compile(
    r'(?:(?P<host>[^\s"]+) (?=(?!- )[^\s"]+ - ))?(?P<address>[^\s"]+) \S+ .{1,255}? \[(?P<time>[^\]]{20,40})\] '
    + _QUOTED.format("request")
    + rf" (?P<status>\d{{3}}) (?:\d+|-)(?: {_QUOTED.format('referrer')} {_QUOTED.format('agent')})?"
)
_TIME = re.compile(r"(\d{2})/([A-Z][a-z]{2})/(\d{4}):(\d{2}:\d{2}:\d{2}) ([+-]\d{2})(\d{2})")
_NAMES = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_MONTHS = {name: n for n, name in enumerate(_NAMES, 1)}
_ESCAPED = re.compile(rb"\\x([0-9A-Fa-f]{2})|\\(.)", re.DOTALL)
_ASSET = re.compile(
    r"\.(?:atom|avif|bmp|br|css|cur|eot|gif|gz|ico|jpe?g|js|json|map|mjs|mp3|mp4|ogg|otf|png|rss|svg|ttf|txt|wasm|wav"
    r"|webm|webmanifest|webp|woff2?|xml)\Z",
    re.IGNORECASE,
)
_NOT_MODIFIED = 304  # a page that the browser had already


class _Request(Struct, frozen=True, gc=False):
    """One request, whatever the format of its log is."""

    time: datetime
    method: str
    target: str
    status: int
    address: str
    agent: str
    referrer: str = ""
    host: str = ""
    languages: str = ""


def recognises(head: Head) -> bool:
    if head.item:
        return _read_json(head.item) is not None
    return _LINE.match(head.line) is not None


def read(files: Sequence[SourceFile]) -> Iterator[tuple[str, str]]:
    return keyed((line for file in files for line in file.lines()), str.strip)


def translate(row: tuple[str, str]) -> Iterator[SourceEvent | SkippedRow]:
    key, line = row
    request = _read_line(line.strip())
    if request is None:
        yield SkippedRow("not_readable")
    elif reason := _why_no_page(request):
        yield SkippedRow(reason)
    else:
        event = page(request.target, request.host) | {
            "event_type": "pageview",
            "event_id": f"log:{key}",
            "timestamp": request.time,
            "referrer": text(request.referrer, 2048) if request.referrer != "-" else None,
        }
        client = Client(plain_address(request.address), request.agent[:1024], request.languages[:200])
        yield SourceEvent(without_nothing(event), client=client)


def _why_no_page(request: _Request) -> str | None:
    if request.method != "GET":
        return "not_a_get"
    if not (200 <= request.status < 300 or request.status == _NOT_MODIFIED):
        return "not_successful"
    if not request.target.startswith("/"):
        return "not_a_page"
    if _ASSET.search(request.target.partition("?")[0]):
        return "asset"
    return "no_user_agent" if request.agent in ("", "-") else None


def _read_line(line: str) -> _Request | None:
    if len(line) > _LONGEST_LINE:
        return None
    if line.startswith("{"):
        found = msgspec.json.decode(line)
        return _read_json(found) if isinstance(found, dict) else None
    found = _LINE.match(line)
    if not found:
        return None
    method, _, rest = _unescaped(found["request"]).partition(" ")
    return _Request(
        time=_combined_time(found["time"]),
        method=method,
        target=rest.partition(" ")[0],
        status=int(found["status"]),
        address=found["address"],
        agent=_unescaped(found["agent"] or ""),
        referrer=_unescaped(found["referrer"] or ""),
        host=(found["host"] or "").partition(":")[0],
    )


def _read_json(entry: Mapping[str, Any]) -> _Request | None:
    """The request of an entry. None if the entry is about something else."""
    request = entry.get("request")
    return _read_caddy(entry, request) if isinstance(request, dict) else _read_nginx(entry)


def _read_caddy(entry: Mapping[str, Any], request: Mapping[str, Any]) -> _Request | None:
    if "uri" not in request or "status" not in entry:
        return None
    headers = {str(name).lower(): value for name, value in (request.get("headers") or {}).items()}

    def header(name: str) -> str:
        values = headers.get(name)
        return str(values[0]) if isinstance(values, list) and values else ""

    return _Request(
        time=_moment(entry["ts"]),
        method=str(request["method"]),
        target=str(request["uri"]),
        status=int(entry["status"]),
        address=str(request.get("client_ip") or request.get("remote_ip") or request.get("remote_addr") or ""),
        agent=header("user-agent"),
        referrer=header("referer"),
        host=str(request.get("host") or "").partition(":")[0],
        languages=header("accept-language"),
    )


def _read_nginx(entry: Mapping[str, Any]) -> _Request | None:
    def first(*names: str) -> str:
        return next((str(entry[name]) for name in names if entry.get(name) not in (None, "", "-")), "")

    time = first("time_iso8601", "time_local", "msec", "timestamp", "@timestamp", "time")
    method, _, rest = first("request").partition(" ")
    target = first("request_uri", "uri") or rest.partition(" ")[0]
    if not (time and target and first("status")):
        return None
    return _Request(
        time=_moment(time),
        method=first("request_method", "method") or method,
        target=target,
        status=int(first("status")),
        address=first("remote_addr", "realip_remote_addr", "remote_ip", "client_ip"),
        agent=first("http_user_agent", "user_agent", "agent"),
        referrer=first("http_referer", "http_referrer", "referer", "referrer"),
        host=first("http_host", "host", "server_name").partition(":")[0],
        languages=first("http_accept_language"),
    )


def _moment(written: object) -> datetime:
    """Unix seconds, ISO 8601, or the time of a combined log. Raises ValueError."""
    try:
        return datetime.fromtimestamp(float(str(written)), UTC)
    except ValueError:
        return _combined_time(str(written)) if "/" in str(written) else in_utc(str(written))


def _combined_time(written: str) -> datetime:
    """`10/Oct/2000:13:55:36 -0700`. Raises ValueError and KeyError."""
    found = _TIME.fullmatch(written)
    if not found:
        raise ValueError(written)
    day, month, year, time, hours, minutes = found.groups()
    return in_utc(f"{year}-{_MONTHS[month]:02}-{day}T{time}{hours}:{minutes}")


def _unescaped(written: str) -> str:
    """nginx writes `"` as \\x22, and Apache as \\". Bytes that are not UTF-8 are replaced."""
    if "\\" not in written:
        return written
    raw = _ESCAPED.sub(
        lambda found: bytes([int(found[1], 16)]) if found[1] else found[2], written.encode(errors="surrogatepass")
    )
    return raw.decode(errors="replace")


ACCESS_LOG = ImportFormat(
    name="log",
    title="access log (combined, nginx in JSON, or Caddy)",
    mapping={
        "a successful GET of a page": "pageview",
        "host, path and query": "the page and its campaign",
        "address and user agent": "the visitor of a day; browser, system, device and place",
        "referrer": "referrer",
        "other requests, assets, bots": "not imported",
    },
    recognises=recognises,
    read=read,
    translate=translate,
)
