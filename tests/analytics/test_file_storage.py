"""Files in S3-compatible storage: how long a server may take, and how many requests a file costs."""

import re
import socket
import time
from http.server import BaseHTTPRequestHandler
from io import BytesIO

import pytest

from analytics.file_storage import FileStorage
from tests.support.browser import Listener

SIZE = 20_000_000  # bytes of the only object


def at(address: str) -> FileStorage:
    url = f"s3://key:secret@bucket/x?endpoint_override={address}&scheme=http&region=us-east-1"
    return FileStorage(url, "archive", "ARCHIVE")


def test_nothing_waits_long_for_a_server_that_accepts_connections_and_does_not_answer():
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(8)
        begun = time.monotonic()
        with pytest.raises(OSError, match=r"(?i)timeout|timed out|curl"):
            at(f"127.0.0.1:{silent.getsockname()[1]}").read("file", BytesIO())
        assert time.monotonic() - begun < 20, "8.4 s on an idle machine; 102 s without limits"


class Bucket(BaseHTTPRequestHandler):
    """Answers each GET with the bytes of its Range, and notes their number."""

    asked: list[int]

    def do_HEAD(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(SIZE))
        self.end_headers()

    def do_GET(self) -> None:
        first, last = map(int, re.findall(r"\d+", self.headers["Range"]))
        length = min(last, SIZE - 1) - first + 1
        self.asked.append(length)
        self.send_response(206)
        self.send_header("Content-Length", str(length))
        self.end_headers()
        self.wfile.write(b"x" * length)

    def log_message(self, *_: object) -> None:
        """Logs nothing to stderr."""


def test_a_large_file_is_read_with_few_requests():
    asked: list[int] = []
    target = BytesIO()
    with Listener(Bucket, asked=asked) as bucket:
        at(f"127.0.0.1:{bucket.port}").read("file", target)
    assert target.tell() == SIZE
    assert len(asked) == 3, asked
