"""A received request: its WSGI environ, and the reading of plain requests. Pure.

A plain request is a POST that arrived in one piece, with one Content-Length, and with headers of the form `Name: value`
in visible ASCII. Nearly all events are sent so. httptools calls a function for each header, so reading a plain request
here takes a fifth of the time. httptools reads all others, and it would read a plain request in the same way:
tests/web/test_http_request.py compares both.
"""

import re
from functools import lru_cache
from typing import Any
from urllib.parse import unquote_to_bytes

_PLAIN_TARGET = re.compile(rb"POST ((/[A-Za-z0-9/_.~-]{0,255})(?:\?([A-Za-z0-9/_.~=&-]{0,255}))?) HTTP/1\.1")
_PLAIN_HEADER = re.compile(rb"([A-Za-z][A-Za-z0-9-]{0,63}): ([!-~](?:[ -~]{0,510}[!-~])?)")
_LENGTH = re.compile("0|[1-9][0-9]{0,5}")
# They change how the request or its connection is read.
_NOT_PLAIN = {"HTTP_CONNECTION", "HTTP_EXPECT", "HTTP_PROXY_CONNECTION", "HTTP_UPGRADE"}
_MOST_PLAIN_HEADERS = 50
_REMEMBERED = 2048  # lines, which take at most 2 kB each


class RequestRefused(Exception):
    """The request is answered without the app."""

    def __init__(self, status: int, message: str, cause: Exception) -> None:
        super().__init__(message)
        self.status = status
        self.cause = cause


class Request:
    """A received request. `is_cut`: its body was too long and is not here; the connection ends with the response.
    `plain`: its part of the environ, if it is a plain request.
    """

    method = version = ""
    url = b""
    size = 0  # bytes of the headers, and later of the trailers
    length: int | None = None  # as the client declares it
    is_head_complete = is_cut = False
    keeps_alive = True
    refusal: RequestRefused | None = None
    plain: dict[str, str] | None = None

    def __init__(self) -> None:
        self.headers: list[tuple[bytes, bytes]] = []
        self.body: bytes | bytearray = b""

    def environ(self, base: dict[str, Any]) -> dict[str, Any]:
        """The WSGI environ. Headers whose name has an underscore are omitted, because they could pose as others."""
        if self.plain is not None:
            return base | self.plain
        target = self.url
        if not target.startswith(b"/") and b"://" in target:  # the absolute form, as for a proxy
            target = b"/" + target.partition(b"://")[2].partition(b"/")[2]
        path, _, query = target.partition(b"?")
        environ = base | {
            "REQUEST_METHOD": self.method,
            "SERVER_PROTOCOL": f"HTTP/{self.version}",
            "RAW_URI": self.url.decode("latin-1"),
            "PATH_INFO": (unquote_to_bytes(path) if b"%" in path else path).decode("latin-1"),
            "QUERY_STRING": query.decode("latin-1"),
        }
        for name, value in self.headers:
            key = _KEYS.get(name) or _key_of(name)
            if not key:
                continue
            text = value.decode("latin-1")
            if key in environ:
                text = f"{environ[key]}{'; ' if key == 'HTTP_COOKIE' else ','}{text}"
            environ[key] = text
        if self.body or self.length is not None:
            environ["CONTENT_LENGTH"] = str(self.length if self.is_cut and self.length else len(self.body))
        return environ


def read_plain(data: bytes) -> Request | None:
    """Returns the request if `data` is one plain request and nothing else."""
    head, end, body = data.partition(b"\r\n\r\n")
    first, *lines = head.split(b"\r\n")
    if not end or len(lines) > _MOST_PLAIN_HEADERS:
        return None
    try:
        headers = dict(map(_read_header, lines))
        has_body = headers.get("CONTENT_LENGTH") == str(len(body))
        if not has_body or len(headers) < len(lines):  # a name may not come twice
            return None
        request = Request()
        request.url, target = _read_target(first)
    except _NotPlain:
        return None
    request.method, request.version = "POST", "1.1"
    request.length, request.body = len(body), body
    request.plain = target | headers
    return request


class _NotPlain(Exception):
    pass


@lru_cache(_REMEMBERED)
def _read_target(line: bytes) -> tuple[bytes, dict[str, str]]:
    found = _PLAIN_TARGET.fullmatch(line)
    if not found:
        raise _NotPlain
    whole, path, query = found.groups(b"")
    return whole, {
        "REQUEST_METHOD": "POST",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "RAW_URI": whole.decode(),
        "PATH_INFO": path.decode(),
        "QUERY_STRING": query.decode(),
    }


@lru_cache(_REMEMBERED)
def _read_header(line: bytes) -> tuple[str, str]:
    """The name in WSGI, and the value."""
    found = _PLAIN_HEADER.fullmatch(line)
    if not found:
        raise _NotPlain
    key, value = _key_of(found[1]), found[2].decode()
    if not key or (key == "CONTENT_LENGTH" and not _LENGTH.fullmatch(value)):
        raise _NotPlain
    if key in _NOT_PLAIN and (key, value) != ("HTTP_CONNECTION", "keep-alive"):
        raise _NotPlain
    return key, value


_KEYS: dict[bytes, str] = {}  # a header's name to its name in WSGI; "" for one that is omitted
_MOST_KEYS = 1000  # clients choose the names
_LONGEST_KEY = 64


def _key_of(name: bytes) -> str:
    text = name.decode("latin-1").upper()
    if "_" in text or text == "TRANSFER-ENCODING":  # the body is complete, so it has a length instead
        key = ""
    elif text in ("CONTENT-TYPE", "CONTENT-LENGTH"):
        key = text.replace("-", "_")
    else:
        key = "HTTP_" + text.replace("-", "_")
    if len(_KEYS) < _MOST_KEYS and len(name) <= _LONGEST_KEY:
        _KEYS[name] = key
    return key
