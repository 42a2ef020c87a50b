"""A bucket of moto's S3 server."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from footfall.embedded_servers import pick_port
from footfall.supervised_process import end_with_parent
from tests.support import stock_clients
from tests.support.running_system import wait_for


@contextmanager
def s3_bucket(prefix: str) -> Iterator[str]:
    """The URL of the prefix in the bucket. The server runs as long as the block."""
    stock_clients.install()
    address = f"127.0.0.1:{(port := pick_port(0))}"

    def has_bucket() -> bool:
        try:
            return httpx.put(f"http://{address}/bucket").status_code == 200
        except httpx.HTTPError:
            return False

    command = [
        *end_with_parent(signal.SIGKILL),
        sys.executable,
        "-m",
        "moto.server",
        "-H",
        "127.0.0.1",
        "-p",
        str(port),
    ]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, env=stock_clients.environment(), **quiet) as server:
        wait_for(has_bucket, "a bucket")
        yield f"s3://key:secret@bucket/{prefix}?endpoint_override={address}&scheme=http&region=us-east-1"
        server.kill()
