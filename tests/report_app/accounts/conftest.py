"""The reporting app with a clock that tests move, and browsers."""

import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from pymongo.database import Database
from redis import Redis
from selenium.webdriver import Chrome
from werkzeug.serving import make_server

from analytics.accounts.sharing import SharingStore
from analytics.accounts.store import AccountStore
from config.services import Services
from config.settings import Settings
from report_app import create_app
from tests.support.accounts import Browser, Clock
from tests.support.browser import chromium

MakeBrowser = Callable[..., Browser]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def timed(settings: Settings, redis: Redis, database: Database[dict[str, Any]], clock: Clock) -> Iterator[Services]:
    with closing(Services(settings, now=clock)) as services:
        yield services


@pytest.fixture
def accounts(timed: Services) -> AccountStore:
    return timed.accounts


@pytest.fixture
def sharing(timed: Services) -> SharingStore:
    return timed.sharing


@pytest.fixture
def app(settings: Settings, timed: Services) -> Flask:
    return create_app(replace(settings, trusted_proxies=1, report_key="a-report-key-for-tests"), timed)


@pytest.fixture
def browser(app: Flask) -> MakeBrowser:
    return lambda **environment: Browser(app, **environment)


@contextmanager
def served(app: Flask) -> Iterator[str]:
    """The address of a server of the app."""
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def server(app: Flask) -> Iterator[str]:
    with served(app) as address:
        yield address


@pytest.fixture
def chrome(tmp_path: Path) -> Iterator[Chrome]:
    with chromium(tmp_path) as chrome:
        yield chrome
