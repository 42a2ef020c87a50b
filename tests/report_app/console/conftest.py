"""The reporting app with an owner who is signed in, and the services behind it. The time is the real one."""

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from typing import Any

import pytest
from flask import Flask
from pymongo.database import Database
from redis import Redis

from analytics.events.schema import load_event
from analytics.journal.journal import JOURNAL_KEY, Line
from analytics.pipeline import store_waiting
from config.services import Services
from config.settings import Settings
from report_app import create_app
from tests.support.accounts import Browser, Clock, make_owner

OLGA = "olga@example.org"
Tell = Callable[..., None]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def real(settings: Settings, redis: Redis, database: Database[dict[str, Any]], clock: Clock) -> Iterator[Services]:
    with closing(Services(settings, now=clock)) as services:
        yield services


@pytest.fixture
def app(settings: Settings, real: Services) -> Flask:
    return create_app(replace(settings, report_key="a-report-key-for-tests"), real)


@pytest.fixture
def owner(app: Flask, real: Services) -> Browser:
    make_owner(real.accounts, OLGA)
    browser = Browser(app)
    assert browser.sign_in(OLGA).status_code == 303
    return browser


@pytest.fixture
def tell(real: Services, redis: Redis) -> Tell:
    """Sends events through the journal. An event that is text is written to the journal as it is."""

    def tell(*events: dict[str, Any] | str) -> None:
        for event in events:
            if isinstance(event, str):
                redis.xadd(JOURNAL_KEY, {"event": event})
            else:
                body = {"site_id": "shop", "event_type": "pageview", "path": "/", "user_id": "ann"} | event
                real.journal.append([Line.of(load_event(body, real.now()))])
        while real.journal.waiting():
            store_waiting(real.stores, "task")

    return tell
