"""A plain request is read as httptools reads it, and every other request is left to httptools."""

import string
from typing import Any

import pytest
from httptools import HttpParserError, HttpRequestParser
from hypothesis import given
from hypothesis import strategies as st

from web.http_request import Request, read_plain

BASE = {"wsgi.url_scheme": "http", "SCRIPT_NAME": ""}
EVENT = b'{"site_id": "shop", "event_type": "pageview"}'
BROWSER = {
    b"Host": b"stats.example:8443", b"User-Agent": b"Mozilla/5.0 (X11; Linux x86_64; rv:144.0) Firefox/144.0",
    b"Accept": b"*/*", b"Accept-Language": b"en-US,en;q=0.9", b"Content-Type": b"text/plain;charset=UTF-8",
    b"Origin": b"https://shop.example", b"Connection": b"keep-alive", b"Cookie": b"a=1; b=2", b"dnt": b"1",
    b"X-Forwarded-For": b"203.0.113.7", b"Content-Length": b"%d" % len(EVENT),
}  # fmt: skip


def rendered(lines: list[tuple[bytes, bytes]], first: bytes = b"POST /event HTTP/1.1", body: bytes = EVENT) -> bytes:
    return b"\r\n".join([first, *(name + b": " + value for name, value in lines), b"", body])


class Parsed:
    """What httptools reads."""

    def __init__(self, data: bytes) -> None:
        self.request = Request()
        self.ends = 0
        self._parser = HttpRequestParser(self)
        self._parser.feed_data(data)

    def on_url(self, url: bytes) -> None:
        self.request.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.request.headers.append((name, value))

    def on_headers_complete(self) -> None:
        self.request.method = self._parser.get_method().decode()
        self.request.version = self._parser.get_http_version()
        self.request.keeps_alive = self._parser.should_keep_alive()

    def on_body(self, piece: bytes) -> None:
        self.request.body += piece

    def on_message_complete(self) -> None:
        self.ends += 1


def meaning(request: Request) -> dict[str, Any]:
    return request.environ(BASE) | {"url": request.url, "body": request.body, "keeps_alive": request.keeps_alive}


def test_the_request_of_a_browser_is_plain():
    data = rendered([*BROWSER.items()])
    plain = read_plain(data)
    assert plain
    assert meaning(plain) == meaning(Parsed(data).request)
    assert plain.environ(BASE)["HTTP_USER_AGENT"].endswith("Firefox/144.0")


OTHER = {
    "another method": rendered([*BROWSER.items()], b"PUT /event HTTP/1.1"),
    "another version": rendered([*BROWSER.items()], b"POST /event HTTP/1.0"),
    "a whole target": rendered([*BROWSER.items()], b"POST http://stats.example/event HTTP/1.1"),
    "an encoded target": rendered([*BROWSER.items()], b"POST /%65vent HTTP/1.1"),
    "a part of a body": rendered([*BROWSER.items()])[:-1],
    "two requests": rendered([*BROWSER.items()]) * 2,
    "no body": rendered([], body=b""),
    "a part of a head": b"POST /event HTTP/1.1\r\nContent-Length: 0\r\n",
    "two lengths": rendered([*BROWSER.items(), (b"content-length", b"%d" % len(EVENT))]),
    "a long length": rendered([(b"Content-Length", b"0%d" % len(EVENT))]),
    "a signed length": rendered([(b"Content-Length", b"+%d" % len(EVENT))]),
    "a repeated header": rendered([*BROWSER.items(), (b"accept", b"text/html")]),
    "a folded header": rendered([*BROWSER.items(), (b"X-A", b"1\r\n 2")]),
    "an underscore": rendered([*BROWSER.items(), (b"X_A", b"1")]),
    "no space": rendered([*BROWSER.items()]).replace(b"Host: ", b"Host:"),
    "a bare line feed": rendered([*BROWSER.items(), (b"X-A", b"1\nX-B: 2")]),
    "other letters": rendered([*BROWSER.items(), (b"X-City", b"K\xc3\xb6ln")]),
    "many headers": rendered([*BROWSER.items(), *((b"X-%d" % n, b"1") for n in range(60))]),
    **{
        name: rendered([*BROWSER.items(), (name.encode(), value)])
        for name, value in {
            "Transfer-Encoding": b"chunked", "Expect": b"100-continue", "Upgrade": b"h2c",
            "Proxy-Connection": b"keep-alive",
        }.items()
    },
    "Connection": rendered([*(BROWSER | {b"Connection": b"close"}).items()]),
}  # fmt: skip


@pytest.mark.parametrize("name", OTHER)
def test_every_other_request_is_left_to_httptools(name: str):
    assert read_plain(OTHER[name]) is None


NAMES = st.sampled_from([*BROWSER, b"Transfer-Encoding", b"Expect", b"Upgrade", b"x-a", b"X-A", b"X_A", b"Via", b" V"])
VALUES = st.one_of(
    st.sampled_from([b"1", b"", b" 1", b"1 ", b"a\tb", b"a\rb", b"a\nb", b"\x00", b"\xff", b"chunked", b"close"]),
    st.text(string.printable, max_size=20).map(str.encode),
)
FIRST = st.one_of(
    st.just(b"POST /event HTTP/1.1"),
    st.text("POSTGE /?=&%.~_-:;@HT1\t", max_size=30).map(lambda text: f"POST /{text} HTTP/1.1".encode()),
)


@given(
    FIRST,
    st.lists(st.tuples(NAMES, VALUES), max_size=4),
    st.lists(st.sampled_from(sorted(BROWSER.items())), max_size=6, unique=True),
    st.sampled_from([EVENT, b"", EVENT + b"\r\n\r\n", b"x" * len(EVENT)]),
)
def test_httptools_reads_a_plain_request_in_the_same_way(
    first: bytes, odd: list[tuple[bytes, bytes]], usual: list[tuple[bytes, bytes]], body: bytes
):
    data = rendered([*odd, *usual, (b"Content-Length", b"%d" % len(body))], first, body)
    plain = read_plain(data)
    try:
        parsed = Parsed(data)
    except HttpParserError:
        assert plain is None
        return
    if plain:
        assert parsed.ends == 1
        assert meaning(plain) == meaning(parsed.request)
