"""Explains in one sentence why a store is not reachable and what to do. The sentence contains no password.

Callers must handle StoreUnreachable, or Unanswered from the `read_...` functions.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from analytics.diagnostics.finding import Finding, Unanswered, problem
from analytics.diagnostics.mongodb import MongoFacts, check_mongodb, read_mongodb
from analytics.diagnostics.redis import RedisFacts, check_redis, read_redis
from analytics.unavailable import Unavailable
from config.clients import STORE_ERRORS, make_database, make_redis
from config.settings import Settings

NAMES = {"redis": "Redis", "mongodb": "MongoDB", "celery": "Celery", "flower": "Flower", "settings": "Settings"}
SET_BY = {"redis": "REDIS_URL", "mongodb": "MONGODB_URI", "celery": "REDIS_URL", "flower": "BIND_HOST and FLOWER_PORT"}


class StoreUnreachable(Exception):
    """The message says which store, where it should be, why it does not answer, and what to do."""


@contextmanager
def explained(settings: Settings) -> Iterator[None]:
    """Raises StoreUnreachable if the block fails because a store does not answer. Asks the store again to learn why."""
    try:
        yield
    except (Unavailable, *STORE_ERRORS) as error:
        of_redis = isinstance(error, Unavailable) and error.store == "redis"
        for store in ("redis", "mongodb") if of_redis else ("mongodb", "redis"):
            check_store(settings, store)
        check_further_journals(settings)
        raise StoreUnreachable(str(error)) from error  # the store answers again, or refuses only this request


def check_store(settings: Settings, store: str) -> None:
    """Raises StoreUnreachable if the store does not answer."""
    try:
        if store == "redis":
            with make_redis(settings) as redis:
                check_redis(redis)
        else:
            database = make_database(settings)
            with database.client:
                check_mongodb(database)
    except (Unanswered, *STORE_ERRORS) as error:
        finding = why_unanswered(store, error)
        raise StoreUnreachable(f"{finding.what} {finding.remedy}") from error


def check_further_journals(settings: Settings) -> None:
    """Raises StoreUnreachable if one of JOURNAL_URLS does not answer."""
    for journal in settings.journals:
        try:
            with make_redis(settings, url=journal.url) as redis:
                check_redis(redis)
        except Unanswered as error:
            remedy = "Start it, or correct JOURNAL_URLS."
            raise StoreUnreachable(f"The journal {journal.name}: {error.finding.what} {remedy}") from error


def why_unanswered(part: str, error: Exception) -> Finding:
    if isinstance(error, Unanswered):
        return error.finding
    if isinstance(error, TimeoutError):
        return problem(f"{NAMES[part]} did not answer in time.", f"Start it again, or correct {SET_BY[part]}.")
    # The error's message may contain values of settings, and so a password.
    return problem(f"{NAMES[part]} could not be read: {type(error).__name__}.", f"Correct {SET_BY[part]}.")


def read_redis_of(settings: Settings, url: str = "") -> RedisFacts:
    """The facts about Redis, or about that of a further journal. Raises Unanswered."""
    with make_redis(settings, url=url) as redis:
        return read_redis(redis, time.time)


def read_mongodb_of(settings: Settings) -> MongoFacts:
    """The facts about MongoDB. Raises Unanswered."""
    database = make_database(settings)
    with database.client:
        found = read_mongodb(database, time.time)
    return replace(found, archives=bool(settings.archive), journals=[each.name for each in settings.journals])
