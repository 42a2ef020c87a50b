"""The configuration of Caddy in deploy/, with a real Caddy in front of the running system."""

import re
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.support.programs import program
from tests.support.running_system import ROOT, pick_ports, running_alone, system_running, wait_for

KEY = "key-of-a-system-behind-caddy"
BROWSER = "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0"
# Caddy signs the certificates itself instead of asking a public authority, and needs no port below 1024.
OPTIONS = """
{{
    admin off
    auto_https disable_redirects
    local_certs
    skip_install_trust
    storage file_system {folder}
    http_port {port}
}}
"""


@dataclass(frozen=True)
class Addresses:
    ingest: str
    report: str
    authority: Path

    def client(self, address: str = "127.0.0.1") -> httpx.Client:
        """A client that connects from an address of this machine."""
        trusted = ssl.create_default_context(cafile=str(self.authority))
        transport = httpx.HTTPTransport(verify=trusted, local_address=address)
        return httpx.Client(transport=transport, headers={"User-Agent": BROWSER}, timeout=30)

    def answer(self) -> bool:
        try:
            with self.client() as client:
                return all(client.get(f"{url}/healthz").status_code == 200 for url in (self.ingest, self.report))
        except (OSError, httpx.TransportError):  # the first: there is no certificate of the authority yet
            return False


@pytest.fixture(scope="module")
def proxied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Addresses]:
    caddy = program("caddy", "caddy")
    folder = tmp_path_factory.mktemp("caddy")
    settings = {"TRUSTED_PROXIES": "1", "ADMIN_KEY": KEY, "REPORT_KEY": KEY}
    with system_running(tmp_path_factory.mktemp("system"), **settings) as system:
        ports = pick_ports(3)
        text = (ROOT / "deploy/caddy/Caddyfile").read_text()
        for found, put in {
            r"^stats\.example": f"https://localhost:{ports[0]}",
            r"^reports\.example": f"https://localhost:{ports[1]}",
            r"127\.0\.0\.1:3000": f"127.0.0.1:{system.ports['INGESTION_PORT']}",
            r"127\.0\.0\.1:3001": f"127.0.0.1:{system.ports['REPORTING_PORT']}",
        }.items():
            text, count = re.subn(found, put, text, flags=re.MULTILINE)
            assert count == 1, found
        configuration = folder / "Caddyfile"
        configuration.write_text(OPTIONS.format(folder=folder, port=ports[2]) + text)
        log, authority = folder / "log", folder / "pki/authorities/local/root.crt"
        made = Addresses(f"https://localhost:{ports[0]}", f"https://localhost:{ports[1]}", authority)
        line = f"{caddy} run --config {configuration} --adapter caddyfile"
        with running_alone(line, log, HOME=str(folder)) as process:
            wait_for(lambda: made.answer() or not process.is_running(), "Caddy")
            assert process.is_running(), log.read_text()
            yield made


def test_visitors_have_their_own_addresses_and_cannot_choose_them(proxied: Addresses):
    event = {"site_id": "addresses", "event_type": "pageview", "url": "https://shop.example/"}
    for address, claimed in (("127.0.0.1", ""), ("127.0.0.2", ""), ("127.0.0.2", "203.0.113.7, 198.51.100.1")):
        with proxied.client(address) as client:
            headers = {"X-Forwarded-For": claimed} if claimed else {}
            assert client.post(f"{proxied.ingest}/event", json=event, headers=headers).status_code == 200

    def visitors() -> int:
        query = {"site_id": "addresses", "metrics": ["visitors"], "date_range": "all"}
        with proxied.client() as client:
            headers = {"Authorization": f"Bearer {KEY}"}
            answer = client.post(f"{proxied.report}/api/v2/query", json=query, headers=headers)
        assert answer.status_code == 200, answer.text
        return int(answer.json()["results"][0]["metrics"][0])

    wait_for(lambda: visitors() == 2, "two visitors")


def test_the_cookie_of_the_session_belongs_to_https(proxied: Addresses):
    with proxied.client() as client:
        page = client.get(f"{proxied.report}/login")
    assert page.status_code == 200
    assert page.headers["Set-Cookie"].startswith("__Host-")
    assert page.headers["Strict-Transport-Security"]
