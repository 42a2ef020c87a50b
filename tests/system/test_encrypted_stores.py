"""Redis with password, ACL and TLS, and MongoDB with authentication and TLS, as docs/stores.md says.

A whole system uses them, and each mistake is named.
"""

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
from celery import Celery
from redis.exceptions import ConnectionError as RedisConnectionError

from config.celery import celery_settings
from config.settings import Settings, SettingsError, load_settings
from footfall.embedded_servers import Server
from footfall.store_checks import StoreUnreachable, check_store
from tests.support.certificates import Authority
from tests.support.encrypted_stores import (
    IN_URL,
    PASSWORD,
    encrypted_mongod,
    encrypted_redis,
    operator_of,
)
from tests.support.running_system import System, running, system_running, wait_for

BROWSER = "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0"
SECRETS = {"SECRET_KEY": "a-secret-for-tests-only", "ADMIN_KEY": "an-admin-key-for-tests"}
LOGIN = ("me", "g3heim")
SITES = ("news", "shop")  # the first journal takes the events of one, and the further journal those of the other
# What redis-py tells every server about itself. Older servers do not know it, and it needs no right to work.
UNIMPORTANT = {"client|setinfo"}


@dataclass(frozen=True)
class Encrypted:
    redis: Server
    journal: Server  # a further Redis, for waiting events
    mongodb: Server
    authority: Authority

    def refused_by_redis(self) -> set[str]:
        found = set()
        for server in (self.redis, self.journal):
            with operator_of(server.port, self.authority) as redis:
                found |= {each["object"] for each in redis.acl_log()}
        return found - UNIMPORTANT


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Encrypted]:
    authority = Authority(tmp_path_factory.mktemp("certificates"))
    certificate = authority.sign("server", addresses=())
    redis, journal = (encrypted_redis(tmp_path_factory.mktemp("redis"), authority, certificate) for _ in range(2))
    mongodb = encrypted_mongod(tmp_path_factory.mktemp("mongodb"), authority, certificate)
    with running(redis), running(journal), running(mongodb):
        yield Encrypted(redis, journal, mongodb, authority)


@pytest.fixture(scope="module")
def encrypted_system(stores: Encrypted, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    settings = {"REDIS_URL": stores.redis.url, "MONGODB_URI": stores.mongodb.url, "FLOWER_BASIC_AUTH": ":".join(LOGIN)}
    settings["JOURNAL_URLS"] = f"b={stores.journal.url}"
    with system_running(tmp_path_factory.mktemp("system"), APP_ENV="production", **SECRETS, **settings) as system:
        yield system


def test_an_event_reaches_a_report_with_the_rights_of_the_page(encrypted_system: System, stores: Encrypted):
    system = encrypted_system
    for site in SITES:
        assert system.run_footfall("sites", "set", site, "timezone=Europe/Berlin").returncode == 0
    assert [system.run_footfall("journals", "of", site).stdout.strip() for site in SITES] == ["main", "b"]
    made = system.run_footfall("keys", "create", "mine", "--scope", "stats:read", "--site", "shop", "--site", "news")
    key = {"Authorization": f"Bearer {made.stdout.strip()}"}

    def send(site: str) -> int:
        event = {"site_id": site, "event_type": "pageview", "path": "/", "user_id": "ann"}
        return httpx.post(f"{system.ingest}/event", json=event, headers={"User-Agent": BROWSER}, timeout=10).status_code

    def views(site: str) -> int:
        answer = httpx.get(f"{system.report}/stats", params={"site_id": site}, headers=key, timeout=10)
        return int(answer.json().get("total_views", 0))

    for site in SITES:
        wait_for(lambda site=site: send(site) == 200, "the site to be published")
        wait_for(lambda site=site: views(site) > 0, "the event in a report")
    for command in ("status", "audit", "workers", "dead-letters count", "visitors erase --site shop --user ann --yes",
                    "users invite-owner", "segments list", "notifications list", "journals list"):  # fmt: skip
        ran = system.run_footfall(*command.split())
        assert ran.returncode == 0, (command, ran.stdout, ran.stderr)
    assert "worker@" in system.run_celery("inspect", "ping").stdout
    assert stores.refused_by_redis() == set()
    assert PASSWORD not in system.output()
    assert IN_URL not in system.output()


def test_a_backup_needs_no_more_rights(encrypted_system: System, stores: Encrypted, tmp_path: Path):
    ran = encrypted_system.run_footfall("backup", str(tmp_path / "backup"))
    assert ran.returncode == 0, ran.stderr
    assert stores.refused_by_redis() == set()


def test_flower_shows_the_queues_of_an_encrypted_broker(encrypted_system: System, stores: Encrypted):
    for page in ("/broker", "/api/queues/length", "/workers"):
        answer = httpx.get(f"{encrypted_system.flower}{page}", auth=LOGIN, timeout=10)
        assert answer.status_code == 200, page
        if page == "/api/queues/length":
            assert {each["name"] for each in answer.json()["active_queues"]} >= {"events"}
    assert stores.refused_by_redis() == set()


def test_doctor_finds_no_fault_with_encrypted_stores(encrypted_system: System, stores: Encrypted):
    ran = encrypted_system.run_footfall("doctor")
    assert ran.returncode == 0, ran.stdout
    assert "ok        settings encryption     The connections to the stores are encrypted" in ran.stdout
    assert "may not" not in ran.stdout
    assert PASSWORD not in ran.stdout
    assert stores.refused_by_redis() == set()


def trouble(store: str, url: str) -> str:
    with pytest.raises(StoreUnreachable) as caught:
        check_store(Settings(**{"redis": {"redis_url": url}, "mongodb": {"mongodb_uri": url}}[store]), store)
    assert PASSWORD not in str(caught.value)
    assert IN_URL not in str(caught.value)
    return str(caught.value)


def test_a_wrong_password_is_named(stores: Encrypted):
    for store, server in (("redis", stores.redis), ("mongodb", stores.mongodb)):
        assert " refuses the user or the password: " in trouble(store, server.url.replace(IN_URL, "wrong"))


def test_a_user_without_rights_is_named(stores: Encrypted):
    with operator_of(stores.redis.port, stores.authority) as redis:
        redis.acl_setuser("nobody", enabled=True, passwords=[f"+{PASSWORD}"], commands=["+ping"])
        said = trouble("redis", stores.redis.url.replace("//footfall:", "//nobody:"))
        redis.acl_log_reset()
    assert f"Redis at localhost:{stores.redis.port} refuses a command of this user: " in said
    assert "docs/stores.md" in said
    said = trouble("mongodb", stores.mongodb.url.replace("//footfall:", "//nobody:"))
    assert f"MongoDB at localhost:{stores.mongodb.port} refuses a command of this user: not authorized on" in said
    assert "docs/stores.md" in said


def test_an_authority_that_is_not_named_or_another_one_is_named(stores: Encrypted, tmp_path: Path):
    other = Authority(tmp_path, "other")
    for store, server, option in (
        ("redis", stores.redis, "ssl_ca_certs"),
        ("mongodb", stores.mongodb, "tlsCAFile"),
    ):
        bare = server.url.rpartition(option)[0].rstrip("?&")
        for url in (bare, server.url.replace(str(stores.authority.file), str(other.file))):
            said = trouble(store, url)
            assert f"localhost:{server.port} is not accepted: " in said
            assert f"Set {option} in " in said


def test_celery_gives_no_password_to_a_broker_that_others_certified(stores: Encrypted):
    """kombu alone would accept any certificate."""

    def ping(url: str) -> bool:
        with Celery("test", set_as_current=False) as app:
            app.conf.update(celery_settings(Settings(redis_url=url)))
            with app.connection_for_write() as connection, connection.channel() as channel:
                return bool(channel.client.ping())

    assert ping(stores.redis.url)
    with pytest.raises(RedisConnectionError, match="CERTIFICATE_VERIFY_FAILED"):
        ping(stores.redis.url.partition("?")[0])


def test_a_certificate_for_another_name_is_named(stores: Encrypted):
    for store, server in (("redis", stores.redis), ("mongodb", stores.mongodb)):
        said = trouble(store, server.url.replace("localhost", "127.0.0.1").replace("replicaSet=footfall&", ""))
        assert "127.0.0.1" in said
        assert "is not accepted: IP address mismatch" in said


def test_a_connection_without_tls_to_a_server_with_it_is_named(stores: Encrypted):
    clear = stores.redis.url.replace("rediss://", "redis://").partition("?")[0]
    assert f"The server at localhost:{stores.redis.port} expects TLS. Write rediss://" in trouble("redis", clear)
    clear = stores.mongodb.url.partition("&tls=")[0]
    assert f"The server at localhost:{stores.mongodb.port} expects TLS. Add tls=true" in trouble("mongodb", clear)


@contextmanager
def listener(certificate: Path) -> Iterator[int]:
    """The port of a server with this certificate, which says nothing."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)

    def serve() -> None:
        with suppress(OSError):
            while True:
                connection, _ = server.accept()
                with suppress(OSError), context.wrap_socket(connection, server_side=True) as peer:
                    peer.recv(1)

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
    thread.join(5)


def test_a_certificate_that_has_expired_is_named(tmp_path: Path):
    """A mongod does not start with one, so a listener shows it."""
    authority = Authority(tmp_path)
    with listener(authority.sign("server", ends=timedelta(seconds=-1))) as port:
        for store, url in (
            ("redis", f"rediss://me:{IN_URL}@localhost:{port}/0?ssl_ca_certs={authority.file}"),
            ("mongodb", f"mongodb://me:{IN_URL}@localhost:{port}/x?tls=true&tlsCAFile={authority.file}"),
        ):
            said = trouble(store, url)
            assert f"at localhost:{port} is not accepted: certificate has expired. Renew the certificate" in said


@pytest.mark.parametrize(
    ("setting", "url"),
    [
        ("REDIS_URL", "rediss://me:g3heim@localhost/0?ssl_ca_certs={path}"),
        ("MONGODB_URI", "mongodb://me:g3heim@localhost/x?tls=true&tlsCAFile={path}"),
        ("MONGODB_URI", "mongodb+srv://me:g3heim@localhost/x?tlscafile={path}"),
    ],
)
def test_a_file_of_certificates_that_cannot_be_used_is_named(
    setting: str, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = tmp_path / "authority.pem"
    for content, reason in ((None, "No such file or directory"), ("no certificate", "it has no certificate")):
        if content:
            path.write_text(content)
        monkeypatch.setenv(setting, url.format(path=path))
        with pytest.raises(SettingsError) as caught:
            load_settings()
        said = str(caught.value)
        assert said.startswith(f"{setting} must be a URL whose ")
        assert f"'{path}' is not: {reason}" in said
        assert "g3heim" not in said
