"""The reporting app with a clock that tests move, and browsers."""

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from typing import Any

import pytest
from flask import Flask
from pymongo.database import Database
from redis import Redis

from analytics.accounts.sharing import SharingStore
from analytics.accounts.store import AccountStore
from config.services import Services
from config.settings import Settings
from report_app import create_app
from tests.support.accounts import Browser, Clock

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
