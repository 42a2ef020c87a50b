"""The configurations of deploy/ and docs/proxies.md: a real nginx and a real Caddy in front of the running system."""

import json
import re
import ssl
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from tests.support.programs import program
from tests.support.running_system import ROOT, System, pick_ports, running_alone, wait_for

ADMIN_KEY = "key-of-a-system-behind-nginx"
BROWSER = "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0"
# Caddy would otherwise also listen on port 80, and on the port of its administration.
CADDY = "{\n    admin off\n    auto_https disable_redirects\n}\n"
ON_A_SITE = "server {{ listen 127.0.0.1:{port}; {location} }}"
NGINX = """
user root;
worker_processes 1;
error_log {folder}/error.log;
pid {folder}/pid;
events {{}}
http {{
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    {servers}
}}
"""


class Proxied:
    """A system, and a proxy in front of it. `ingest`, `report` and `page`: the addresses that the proxy listens on."""

    def __init__(self, name: str, system: System, folder: Path) -> None:
        self.name = name
        self.folder = folder
        self.ports = pick_ports(3)
        self.system = system
        self.ingest, self.report = (f"https://localhost:{port}" for port in self.ports[:2])
        self.page = f"http://localhost:{self.ports[2]}"
        self.certificate, self.key = folder / "certificate.pem", folder / "key.pem"
        make_certificate(self.certificate, self.key)

    def command(self, binary: str) -> str:
        """Write the configuration of the page, and return the command that starts the proxy with it."""
        file = self.folder / "configuration"
        if self.name == "caddy":
            file.write_text(CADDY + self._caddy())
            folders = f"XDG_DATA_HOME={self.folder} XDG_CONFIG_HOME={self.folder}"
            return f"env {folders} {binary} run --adapter caddyfile --config {file}"
        file.write_text(NGINX.format(folder=self.folder, servers=self._nginx()))
        return f"{binary} -c {file} -g 'daemon off;' -e {self.folder}/start.log"

    def _nginx(self) -> str:
        servers = (ROOT / "deploy/nginx/footfall.conf").read_text()
        (location,) = re.findall(r"```nginx\n(.*?)```", (ROOT / "docs/proxies.md").read_text(), re.DOTALL)
        ssl = [f"listen 127.0.0.1:{port} ssl;\n    server_name" for port in self.ports]
        changes = {
            r"listen 443 ssl;\n    server_name stats": f"{ssl[0]} stats",
            r"listen 443 ssl;\n    server_name reports": f"{ssl[1]} reports",
            r"/etc/ssl/\w+\.example\.pem": str(self.certificate),
            r"/etc/ssl/\w+\.example\.key": str(self.key),
        }
        return self._changed(servers + ON_A_SITE.format(port=self.ports[2], location=location), changes)

    def _caddy(self) -> str:
        sites = (ROOT / "deploy/caddy/Caddyfile").read_text()
        own = f"{{\n    bind 127.0.0.1\n    tls {self.certificate} {self.key}"
        changes = {r"stats\.example \{": f"{self.ingest} {own}", r"reports\.example \{": f"{self.report} {own}"}
        return self._changed(sites, changes)

    def _changed(self, text: str, changes: dict[str, str]) -> str:
        ports = self.system.ports
        changes |= {"127.0.0.1:3000": f"127.0.0.1:{ports['INGESTION_PORT']}"}
        changes |= {"127.0.0.1:3001": f"127.0.0.1:{ports['REPORTING_PORT']}"}
        for found, put in changes.items():
            text, count = re.subn(found, put, text)
            assert count, found
        return text

    def client(self, address: str = "127.0.0.1") -> httpx.Client:
        """A client that connects from an address of this machine."""
        trusted = ssl.create_default_context(cafile=str(self.certificate))
        transport = httpx.HTTPTransport(verify=trusted, local_address=address)
        return httpx.Client(transport=transport, headers={"User-Agent": BROWSER}, timeout=30)

    def visitors(self, site: str) -> int:
        query = {"site_id": site, "metrics": ["visitors"], "date_range": "all"}
        headers = {"Authorization": f"Bearer {ADMIN_KEY}"}
        with self.client() as client:
            answer = client.post(f"{self.report}/api/v2/query", json=query, headers=headers)
        assert answer.status_code == 200, answer.text
        return answer.json()["results"][0]["metrics"][0]


def make_certificate(certificate: Path, key: Path) -> None:
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-keyout", str(key), "-out",
         str(certificate)],
        check=True, capture_output=True,
    )  # fmt: skip


@pytest.fixture(scope="module")
def behind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """A system that trusts one proxy."""
    system = System(tmp_path_factory.mktemp("system"), TRUSTED_PROXIES="1", ADMIN_KEY=ADMIN_KEY, REPORT_KEY=ADMIN_KEY)
    try:
        yield system.start()
    finally:
        system.kill()


@pytest.fixture(scope="module", params=["nginx", "caddy"])
def proxied(
    request: pytest.FixtureRequest, behind: System, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Proxied]:
    binary = program(request.param, request.param)
    folder = tmp_path_factory.mktemp(request.param)
    proxied = Proxied(request.param, behind, folder)
    with running_alone(proxied.command(binary), folder / "log") as process, proxied.client() as client:

        def answers() -> bool:
            assert process.is_running(), (folder / "log").read_text()
            try:
                return client.get(f"{proxied.ingest}/healthz").status_code == 200
            except httpx.TransportError:
                return False

        wait_for(answers, request.param)
        yield proxied


def test_visitors_have_their_own_addresses_and_cannot_choose_them(proxied: Proxied):
    site = f"addresses-{proxied.name}"
    event = {"site_id": site, "event_type": "pageview", "url": "https://shop.example/"}
    for address, claimed in (("127.0.0.1", ""), ("127.0.0.2", ""), ("127.0.0.2", "203.0.113.7, 198.51.100.1")):
        with proxied.client(address) as client:
            headers = {"X-Forwarded-For": claimed} if claimed else {}
            assert client.post(f"{proxied.ingest}/event", json=event, headers=headers).status_code == 200
    wait_for(lambda: proxied.visitors(site) == 2, "two visitors")


@pytest.mark.parametrize("proxied", ["nginx"], indirect=True)  # the page shows it for nginx only
def test_a_part_of_a_site_leads_to_ingestion(proxied: Proxied):
    with proxied.client() as client:
        script = client.get(f"{proxied.page}/stats/js/footfall.js")
        assert (script.status_code, script.headers["Content-Type"]) == (200, "text/javascript; charset=utf-8")
        event = {"site_id": "own-domain", "event_type": "pageview", "path": "/"}
        answer = client.post(f"{proxied.page}/stats/events", json=[event], headers={"Cookie": "footfall_optout=1"})
        assert (answer.status_code, answer.json()["accepted"]) == (200, 1)
    wait_for(lambda: proxied.visitors("own-domain") == 1, "the visitor")


def test_browsers_are_told_to_use_https_and_keep_the_cookie_of_the_session_to_it(proxied: Proxied):
    with proxied.client() as client:
        assert client.get(f"{proxied.ingest}/healthz").headers["Strict-Transport-Security"]
        page = client.get(f"{proxied.report}/login")
    assert page.status_code == 200
    assert page.headers["Strict-Transport-Security"]
    cookie = page.headers["Set-Cookie"]
    assert cookie.startswith("__Host-")
    assert "; Secure" in cookie


@pytest.mark.parametrize(("size", "status"), [(4_900_000, 200), (5_300_000, 413)])
def test_the_largest_batch_passes_and_a_larger_one_does_not(proxied: Proxied, size: int, status: int):
    event = {"site_id": "large", "event_type": "a", "props": {"text": "x" * 2000}}
    line = json.dumps(event) + "\n"
    body = line * (size // len(line))
    with proxied.client() as client:
        answer = client.post(f"{proxied.ingest}/events", content=body, headers={"Content-Type": "application/x-ndjson"})
    assert answer.status_code == status, answer.text[:300]


def test_an_export_is_streamed_to_its_end(proxied: Proxied):
    now = datetime.now(UTC).isoformat()
    site = f"export-{proxied.name}"
    events = [{"site_id": site, "event_type": "a", "timestamp": now, "event_id": f"{n}"} for n in range(3000)]
    headers = {"Authorization": f"Bearer {ADMIN_KEY}"}

    def exported() -> int:
        with proxied.client() as client:
            answer = client.get(f"{proxied.report}/export/events", params={"site_id": site}, headers=headers)
        assert answer.status_code == 200, answer.text
        return len(answer.text.splitlines())

    with proxied.client() as client:
        answer = client.post(f"{proxied.ingest}/events", json=events, headers=headers)
        assert answer.json()["accepted"] == 3000
    wait_for(lambda: exported() == 3000, "all events")
