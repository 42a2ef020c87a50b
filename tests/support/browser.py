"""A real Chromium, and pages for it: they have another origin than the apps, and a strict Content-Security-Policy."""

import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest
from selenium import webdriver
from selenium.common.exceptions import WebDriverException
from selenium.webdriver.chrome.service import Service

from tests.support.running_system import wait_for
from tests.support.stock_clients import FOLDER

AXE = FOLDER / "node_modules" / "axe-core" / "axe.min.js"
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-dev-shm-usage",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--window-size=1280,800",
    # No request leaves this machine.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
    # The default user agent of a headless Chromium says so, and the hits would be dropped as a bot's.
    "--user-agent=Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/156.0 Safari/537.36",
]  # fmt: skip

PAGE = """<!doctype html><html lang="en"><title>{path}</title>
<script nonce="here">{before}</script>
<script defer src="{tracker}{script}" {attributes}></script>
<script type="speculationrules" nonce="here">{rules}</script>
<body style="margin: 0; height: 4000px">{links}"""


@contextmanager
def chromium(folder: Path) -> Iterator[webdriver.Chrome]:
    """A Chromium with its profile in `folder`. If none is installed, the test is skipped, but never in CI."""
    binary, controller = shutil.which("chromium"), shutil.which("chromedriver")
    if not (binary and controller) and "CI" not in os.environ:
        pytest.skip("apt-get install chromium chromium-driver")
    assert binary, "no chromium"
    assert controller, "no chromedriver"
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for flag in [*FLAGS, f"--user-data-dir={folder}"]:
        options.add_argument(flag)
    with webdriver.Chrome(options, Service(controller)) as browser:
        yield browser


def wait_for_page(condition: Callable[[], Any], what: str, limit: float = 30) -> Any:
    """wait_for() for what a page shows. Between two pages, and while a part is replaced, elements are missing."""

    def shown() -> Any:
        with suppress(WebDriverException, IndexError):
            return condition()
        return None

    return wait_for(shown, what, limit)


def accessibility_faults(driver: webdriver.Chrome) -> list[str]:
    """What axe-core finds on the open page against WCAG 2.2 A and AA."""
    driver.execute_script(AXE.read_text(encoding="utf-8"))
    tags = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
    found = driver.execute_async_script(
        "const done = arguments[arguments.length - 1];"
        "axe.run({ runOnly: arguments[0] }).then((found) => done(found.violations))", tags
    )  # fmt: skip
    return [f"{each['id']}: {node['html'][:120]} {node['failureSummary']}" for each in found for node in each["nodes"]]


class Listener:
    """An HTTP server of a single test, on a port that was not used before.

    So its pages share no storage with other pages.
    """

    def __init__(self, handler: type[BaseHTTPRequestHandler], **about: Any) -> None:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (handler,), about))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def port(self) -> int:
        return self._server.server_port

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.port}"


class Pages(Listener):
    """A server on which each path is a page with the tracker, which comes from `tracker`. `/missing...` has status 404.

    `attributes`: of the tracker's tag. `before`: a script that runs first. `links`: the body. `rules`: what to
    prerender. `script` and `names_site`: the path of the tracker and the attribute for the site. All may be changed
    between two visits.
    """

    def __init__(self, tracker: str, site: str) -> None:
        super().__init__(_Page, pages=self)
        self.tracker = tracker
        self.site = site
        self.script = "/js/footfall.js"
        self.names_site = "data-site"
        self.attributes = ""
        self.before = ""
        self.links = ""
        self.rules = "{}"
        self.sandboxed = False
        self.may_connect_to = tracker

    def html(self, path: str) -> bytes:
        return PAGE.format(
            path=path,
            before=self.before,
            tracker=self.tracker,
            script=self.script,
            attributes=f'{self.names_site}="{self.site}" {self.attributes}',
            rules=self.rules,
            links=self.links,
        ).encode()

    def policy(self) -> str:
        """The Content-Security-Policy: what the tracker needs according to docs/tracker.md, and nothing else."""
        needs = f"script-src 'nonce-here' {self.tracker}; connect-src {self.may_connect_to}"
        sandbox = "; sandbox allow-scripts" if self.sandboxed else ""
        return f"default-src 'none'; style-src 'unsafe-inline'; {needs}{sandbox}"


class Quiet(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | headers).items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Logs nothing to stderr."""


class _Page(Quiet):
    pages: Pages

    def do_GET(self) -> None:
        if self.path.endswith(".pdf"):
            self.answer(204, b"")
            return
        html = self.pages.html(self.path)
        status = 404 if self.path.startswith("/missing") else 200
        self.answer(status, html, Content_Type="text/html", Content_Security_Policy=self.pages.policy())


class FramingPage(Quiet):
    """A page with a frame, whose address is the query of the page."""

    def do_GET(self) -> None:
        html = f'<!doctype html><title>Blog</title><iframe width="1200" height="900" src="{self.path[2:]}"></iframe>'
        self.answer(200, html.encode(), Content_Type="text/html")
