"""Fixtures.

They run real servers for every test: one Redis and one MongoDB per pytest process, emptied between tests.
"""

import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from httpx._transports import default as httpx_transport
from jinja2.bccache import Bucket, BytecodeCache
from pymongo.database import Database
from redis import Redis
from werkzeug.routing import Rule

from analytics import mongodb
from analytics.access.store import ApiKeyStore
from analytics.journal.journal import Journal
from analytics.pipeline import Stores
from config.clients import make_database, make_redis
from config.services import Services
from config.settings import Settings
from config.shared_memory import share_memory_with_children
from footfall.embedded_servers import Server, mongo_server, pick_port, redis_server
from ingest_app import create_app as create_ingest_app
from report_app import create_app as create_report_app
from tests.support.described_client import described_client
from tests.support.running_system import System, running, system_running
from tests.support.services import ADMIN_KEY, NOW, Clock, WakeUps, make_services, tell

# These take a minute or more each. They run first, so that no process waits for the others at the end.
LONG = {
    "test_backup_of_a_system", "test_chaos", "test_collector_fuzz", "test_console_in_browser",
    "test_dashboard_in_browser", "test_deploys", "test_eraser", "test_failed_starts", "test_documented_commands",
    "test_notification_tasks", "test_outages", "test_panels", "test_privacy_system", "test_reports_oracle",
    "test_rolling_upgrade", "test_schemathesis", "test_segment_tasks", "test_several_journals", "test_supervisor",
    "test_system", "test_tracker_in_browser",
}  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.path.stem not in LONG)


def pytest_collection_finish() -> None:
    """Exempts modules and tests from garbage collection, which took a quarter of the time of the apps' tests."""
    share_memory_with_children()


@pytest.fixture(scope="session", autouse=True)
def url_builders() -> None:
    """Werkzeug compiles two functions for each route of each app. The tests make thousands of equal apps."""
    compiled: dict[tuple[str, str, bool], Callable[..., tuple[str, str]]] = {}
    compile_builder = Rule._compile_builder

    def compile_once(rule: Rule, append_unknown: bool = True) -> Callable[..., tuple[str, str]]:
        key = (str(rule._trace), str(rule.defaults), append_unknown)
        if key not in compiled:
            compiled[key] = compile_builder(rule, append_unknown)
        return compiled[key]

    Rule._compile_builder = compile_once


class CompiledTemplates(BytecodeCache):
    """Jinja compiles each template for each app."""

    def __init__(self) -> None:
        self._compiled: dict[str, bytes] = {}

    def load_bytecode(self, bucket: Bucket) -> None:
        if bucket.key in self._compiled:
            bucket.bytecode_from_string(self._compiled[bucket.key])

    def dump_bytecode(self, bucket: Bucket) -> None:
        self._compiled[bucket.key] = bucket.bytecode_to_string()


@pytest.fixture(scope="session", autouse=True)
def compiled_templates() -> None:
    Flask.jinja_options = {"bytecode_cache": CompiledTemplates()}


@pytest.fixture(scope="session", autouse=True)
def authorities() -> None:
    """httpx reads the certificates of all authorities for each client, and so for each `httpx.get`: 37 ms of CPU. The
    tests ask for http only, or name the certificates that they trust.
    """
    httpx_transport.create_ssl_context = cache(httpx_transport.create_ssl_context)


@pytest.fixture(scope="session", autouse=True)
def long_limits() -> dict[str, float]:
    """Gives MongoDB time to answer the tests' own process: a busy machine may stand still for seconds. Returns the
    limits of production.
    """
    usual = {name: getattr(mongodb, name) for name in ("PING_LIMIT", "LOOK_LIMIT")}
    for name in usual:
        setattr(mongodb, name, 20.0)
    return usual


@pytest.fixture
def usual_limits(long_limits: dict[str, float], monkeypatch: pytest.MonkeyPatch) -> None:
    """The limits of production, for a test whose MongoDB does not answer."""
    for name, seconds in long_limits.items():
        monkeypatch.setattr(mongodb, name, seconds)


@pytest.fixture(scope="session", autouse=True)
def temporary_files(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Files that killed processes leave behind are removed with the other temporary files."""
    os.environ["TMPDIR"] = str(tmp_path_factory.mktemp("temporary"))
    tempfile.tempdir = None


@pytest.fixture(scope="session")
def redis_running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = redis_server(tmp_path_factory.mktemp("redis"), pick_port(0))
    with running(server):
        yield server


@pytest.fixture(scope="session")
def mongo_running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = mongo_server(tmp_path_factory.mktemp("mongodb"), pick_port(0))
    # By default MongoDB keeps the locks of a process that was killed within a transaction for a minute.
    server.command.extend(["--setParameter", "transactionLifetimeLimitSeconds=5"])
    with running(server):
        yield server


@pytest.fixture(scope="session")
def settings(redis_running: Server, mongo_running: Server, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return Settings(
        redis_url=redis_running.url,
        mongodb_uri=mongo_running.url,
        data_dir=str(tmp_path_factory.mktemp("data")),
        claim_idle=0.2,
        stats_time_limit=5,
        admin_key=ADMIN_KEY,
        segment_dir=str(tmp_path_factory.mktemp("segments")),
    )


@pytest.fixture
def redis(settings: Settings) -> Iterator[Redis]:
    client = make_redis(settings)
    client.flushall()
    yield client
    client.close()


def filled(database: Database[dict[str, Any]], names: Iterable[str]) -> list[str]:
    """Those of the collections that have a document. A question about all, because nearly all are empty."""
    parts = [
        {"$unionWith": {"coll": name, "pipeline": [{"$limit": 1}, {"$project": {"_id": {"$literal": name}}}]}}
        for name in names
    ]
    return [found["_id"] for found in database.aggregate([{"$documents": []}, *parts])]


@pytest.fixture
def database(settings: Settings) -> Iterator[Database[dict[str, Any]]]:
    database = make_database(settings)
    names = database.list_collection_names()
    for name in filled(database, names):
        database[name].delete_many({})
    if "events" not in names:
        database.create_collection("events")  # some tests set rules for it before the first event
    yield database
    database.client.close()


@pytest.fixture
def journal(redis: Redis, settings: Settings) -> Journal:
    return Journal(redis, queue="events", batch=1000, claim_idle=settings.claim_idle)


@pytest.fixture
def stores(services: Services) -> Stores:
    return services.stores


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def wake_ups() -> WakeUps:
    return WakeUps()


@pytest.fixture
def ingest(settings: Settings, journal: Journal, wake_ups: WakeUps) -> FlaskClient:
    return described_client(create_ingest_app(settings, make_services(settings, journal=journal), wake_ups))


@pytest.fixture
def story(database: Database[dict[str, Any]]) -> None:
    """The shop's events of 21 November, and a pageview of the day before."""
    tell(
        database,
        {"at": "20 09:00:00", "user_id": "bob", "path": "/"},
        {"at": "21 10:00:00", "path": "/", "country": "DE", "source": "Google"},
        {"at": "21 10:05:00", "path": "/pricing", "country": "DE", "source": "Google"},
        {"at": "21 10:10:00", "event_type": "signup", "props": {"plan": "pro"},
         "revenue": {"amount": "49.90", "currency": "USD"}},
        {"at": "21 11:00:00", "user_id": "bob", "path": "/pricing", "country": "FR"},
        {"at": "21 12:00:00", "user_id": None, "path": "/"},
        {"at": "21 15:00:00", "path": "/"},
    )  # fmt: skip


@pytest.fixture
def services(
    settings: Settings, redis: Redis, database: Database[dict[str, Any]], journal: Journal
) -> Iterator[Services]:
    settings = replace(settings, duckdb_memory=settings.report_memory)
    api_keys = ApiKeyStore(database, lambda: NOW)  # unlike that of Services, it makes keys for sites without settings
    parts = {"redis": redis, "database": database, "journal": journal, "api_keys": api_keys}
    with closing(make_services(settings, **parts)) as services:
        yield services


@pytest.fixture
def report(settings: Settings, services: Services) -> FlaskClient:
    return described_client(create_report_app(settings, services))


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """The whole running system, one for each test module that uses it."""
    with system_running(tmp_path_factory.mktemp("system"), CLAIM_IDLE="5") as system:
        yield system
