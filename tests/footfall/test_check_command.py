"""`python -m footfall check`, on pages of a real server, with the real ingestion app."""

import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_network
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner, Result
from redis import Redis

from analytics.journal.audit import Audited, audit
from analytics.journal.journal import JOURNAL_KEY
from analytics.pipeline import store_waiting
from analytics.sites.registry import SiteRegistry
from analytics.sites.site import Site
from config.services import Services
from config.settings import Settings
from footfall import check
from footfall.check import LARGEST_PAGE, check_command
from footfall.content_policy import CONNECT, SCRIPT, blocking
from footfall.embedded_servers import pick_port
from ingest_app import create_app
from ingest_app.tracker import STAND_IN
from tests.support.receivers import raw_server
from tests.support.running_system import running_alone, wait_for
from tests.support.services import WakeUps
from tests.system.test_deployment import PROCFILE

Answer = tuple[int, dict[str, str], bytes]


@pytest.fixture
def site() -> Iterator[tuple[str, dict[str, Answer]]]:
    """The address of a web server, and its answers by path."""
    answers: dict[str, Answer] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, headers, body = answers.get(self.path, (404, {}, b""))
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET  # noqa: N815 (the base class's name)

        def log_message(self, *_: object) -> None:
            return

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", answers
        server.shutdown()


@pytest.fixture
def ingest(settings: Settings, redis: Redis, tmp_path: Path) -> Iterator[str]:
    """The address of the ingestion app."""
    url = f"http://127.0.0.1:{(port := pick_port(0))}"
    stores = {"REDIS_URL": settings.redis_url, "MONGODB_URI": settings.mongodb_uri}

    def answers() -> bool:
        try:
            return httpx.get(f"{url}/readyz").status_code == 200
        except httpx.HTTPError:
            return False

    with running_alone(PROCFILE["ingest"], tmp_path / "log", **stores, INGESTION_PORT=str(port)):
        wait_for(answers, "the ingestion app")
        yield url


@pytest.fixture
def run() -> Callable[[str], Result]:
    return lambda url: CliRunner().invoke(check_command, [url])


def test_a_page_with_the_tracker_is_sound_and_its_event_is_not_stored(site, ingest: str, redis: Redis, run):
    url, answers = site
    policy = {"Content-Security-Policy": f"default-src 'none'; script-src {ingest}; connect-src {ingest}"}
    answers["/page"] = 200, policy, f'<script defer src="{ingest}/js/footfall.js" data-site="shop"></script>'.encode()
    answers["/"] = 302, {"Location": "/page"}, b""
    ran = run(f"{url}/")
    assert ran.exit_code == 0, ran.output
    assert f"loaded from {url}/page" in ran.output
    assert f"{ingest}/events accepts the page's events" in ran.output
    assert redis.exists(JOURNAL_KEY) == 0


def test_the_paths_of_a_site_are_sound(site, ingest: str, redis: Redis, run):
    url, answers = site
    SiteRegistry(redis).publish(lambda: [Site("shop", script_path="/kit/k.js", endpoint_path="/kit/k")])
    tag = f'<script defer src="{ingest}/kit/k.js" data-site="shop" data-endpoint="{ingest}/kit/k"></script>'
    answers["/"] = 200, {}, tag.encode()
    ran = run(f"{url}/")
    assert ran.exit_code == 0, ran.output
    assert f"{ingest}/kit/k accepts the page's events" in ran.output
    event = {"site_id": "shop", "event_type": "pageview", "path": "/"}
    for _ in range(3):  # in a thread, then on the loop
        assert httpx.post(f"{ingest}/kit/k", json={"events": [event]}).json()["accepted"] == 1


@pytest.mark.parametrize(
    ("tag", "endpoint"),
    [
        ("data-domain='shop.example' src='{ingest}/js/script.hash.js'", "/api/event"),
        ("data-domain='shop.example' src='{url}/js/script.js' data-api='{ingest}/api/event'", "/api/event"),
        ("data-website-id='b59e9c65-ae32-47f1-8400-119fcf4861c4' src='{ingest}/script.js'", "/api/send"),
        ("data-website-id='shop' src='{url}/js/script.js' data-host-url='{ingest}/'", "/api/send"),
        (
            "data-domain='a' src='{url}/old.js'></script><script data-site='shop' src='{ingest}/js/footfall.js'",
            "/events",
        ),
    ],
)
def test_the_tags_of_plausible_and_umami_are_sound(tag: str, endpoint: str, site, ingest: str, run):
    url, answers = site
    answers["/"] = 200, {}, f"<script defer {tag}></script>".format(ingest=ingest, url=url).encode()
    answers["/js/script.js"] = 200, {"Content-Type": "text/javascript"}, STAND_IN.read_bytes()  # a proxy's
    ran = run(f"{url}/")
    assert ran.exit_code == 0, ran.output
    assert f"{ingest}{endpoint} accepts the page's events" in ran.output


@pytest.mark.parametrize(
    ("tag", "said"),
    [
        ("data-domain='shop' src='{}/js/script.js'", "/api/event does not count the events of shop."),
        ("data-website-id='blog' src='{}/script.js'", "/api/send does not accept the page's events"),
    ],
)
def test_a_site_that_does_not_want_the_page_s_events_is_named(
    site, ingest: str, redis: Redis, run, *, tag: str, said: str
):
    url, answers = site
    shop = Site("shop", excluded_ips=(ip_network("127.0.0.1/32"),))
    SiteRegistry(redis).publish(lambda: [shop, Site("blog", allowed_origins=("https://blog.example",))])
    answers["/"] = 200, {}, f"<script {tag.format(ingest)}></script>".encode()
    ran = run(f"{url}/")
    assert (ran.exit_code, said in ran.output) == (1, True), ran.output


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/event", {"n": "pageview", "u": "https://shop.example/", "d": "shop"}),
        ("/api/send", {"type": "event", "payload": {"website": "shop", "hostname": "shop.example", "url": "/"}}),
    ],
)
def test_no_report_counts_an_event_of_a_check(
    settings: Settings, services: Services, wake_ups: WakeUps, path: str, body: dict[str, object]
):
    client = create_app(settings, services, wake_ups).test_client()
    assert client.post(path, json=body, headers={"User-Agent": check.USER_AGENT}).status_code in (200, 202)
    assert services.journal.waiting() == 1
    store_waiting(services.stores, "task")
    assert services.database["events"].count_documents({}) == 0
    (balance,) = audit(Audited(services.ledger, services.journal, services.events, services.dead_letters)).balances
    assert balance.dropped_later == {"bot": 1}


@pytest.mark.parametrize(
    ("tag", "policy", "said"),
    [
        ("<p>no script</p>", "", "The page has no tag of the tracker. Add it to the page: <script"),
        ("<script src='{ingest}/js/footfall.js'></script>", "", "has no data-site"),
        ("<script src='{ingest}/js/footfall.js' data-site='{long}'></script>", "", "does not accept the page's events"),
        ("<script src='{ingest}/gone.js' data-site='shop'></script>", "", "is no script: it answers with status 404"),
        ("<script src='{url}/theirs.js' data-domain='shop'></script>", "", "is a script of another system"),
        ("<script src='{url}/theirs.js' data-domain='shop'></script>", "", "/api/event does not accept the page's"),
        ("<script src='{url}/theirs.js' data-website-id='shop'></script>", "", "/api/send gave no answer of Footfall"),
        ("<script src='{url}/js/footfall.js' data-site='shop'></script>", "", "/events gave no answer of Footfall"),
        ("<script src='http://[' data-site='shop'></script>", "", "an address that is no URL"),
        ("<script src='http://['></script>", "", "The page has no tag of the tracker."),
        ("<script src='file:///etc/passwd' data-site='shop'></script>", "", "is no address that begins with https://"),
        (
            "<script src='{ingest}/js/footfall.js' data-site='\x1b[2J'></script>",
            "script-src 'self'",
            r"the site \x1b[2J.",
        ),
        ("<script src='{ingest}/js/footfall.js' data-site='shop'></script>", "script-src 'self'", "to script-src"),
        ("<script src='{ingest}/js/footfall.js' data-site='shop'></script>", "connect-src 'none'", "to connect-src"),
        (
            "<meta http-equiv='Content-Security-Policy' content=\"default-src 'self'\">"
            "<script src='{ingest}/js/footfall.js' data-site='shop'></script>",
            "",
            "blocks",
        ),
    ],
)
def test_what_is_wrong_with_a_page_is_named(tag: str, policy: str, said: str, site, ingest: str):
    url, answers = site
    headers = {"Content-Security-Policy": policy} if policy else {}
    answers["/"] = 200, headers, tag.format(ingest=ingest, url=url, long="x" * 1000).encode()
    answers["/theirs.js"] = 200, {"Content-Type": "text/javascript"}, b"window.plausible = 1"
    ran = CliRunner().invoke(check_command, [f"{url}/"])
    assert ran.exit_code == 1, ran.output
    assert said in ran.output
    assert "Traceback" not in ran.output
    assert ran.exception is None or isinstance(ran.exception, SystemExit)


@pytest.mark.parametrize("to", ["/", "file:///etc/passwd", "ftp://127.0.0.1/"])
def test_a_page_that_redirects_for_ever_or_elsewhere_is_not_loaded(to: str, site, run):
    url, answers = site
    answers["/"] = 302, {"Location": to}, b""
    ran = run(f"{url}/")
    assert ran.exit_code == 1
    assert "The page could not be loaded" in ran.output or "answers with status 302" in ran.output


def drip_for_a_second(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    for _ in range(20):
        connection.sendall(b"2")
        threading.Event().wait(0.05)


def test_pages_that_are_away_large_or_slow_end_the_check_in_time(site, run, monkeypatch: pytest.MonkeyPatch):
    url, answers = site
    assert "could not be loaded" in run(f"http://127.0.0.1:{pick_port(0)}/").output
    answers["/"] = 200, {}, b"<p>" * LARGEST_PAGE
    assert "The page has no tag of the tracker" in run(f"{url}/").output
    monkeypatch.setattr(check, "FETCH_LIMIT", 0.5)
    with raw_server(drip_for_a_second) as port:
        assert "it did not answer in time" in run(f"http://127.0.0.1:{port}/").output


@pytest.mark.parametrize("url", ["shop.example", "file:///etc/passwd", "https://", ""])
def test_only_addresses_of_web_pages_are_taken(url: str, run):
    ran = run(url)
    assert ran.exit_code == 1
    assert "is no address that begins with https:// or http://" in ran.output


PAGE, AT = "https://shop.example/a", "https://stats.example/js/footfall.js"


@pytest.mark.parametrize(
    ("policy", "is_allowed"),
    [
        ("", True), ("img-src 'none'", True), ("default-src *", True), ("script-src https:", True),
        ("script-src stats.example", True), ("script-src *.example", True),
        ("script-src https://stats.example:443", True),
        ("script-src https://stats.example/js/", True), ("script-src 'nonce-abc'", True),
        ("script-src 'strict-dynamic' 'nonce-abc'", True), ("default-src 'none'; script-src-elem stats.example", True),
        ("SCRIPT-SRC STATS.EXAMPLE", True), ("script-src http://stats.example", True),
        ("script-src", False), ("default-src 'none'", False), ("script-src 'self'", False), ("script-src http:", True),
        ("script-src other.example", False), ("script-src *.stats.example", False),
        ("script-src stats.example:8443", False),
        ("script-src https://stats.example/other/", False), ("script-src 'nonce-x'", False),
        ("script-src 'strict-dynamic' https://stats.example", False), ("script-src data: 'unsafe-inline'", False),
        ("script-src 'none'; script-src *", False), ("script-src ://", False),
    ],
)  # fmt: skip
def test_a_policy_blocks_what_a_browser_would_block(policy: str, is_allowed: bool):
    assert bool(blocking([policy], SCRIPT, AT, PAGE, "abc")) is not is_allowed
    assert blocking([policy, "connect-src 'none'"], CONNECT, AT, PAGE)
