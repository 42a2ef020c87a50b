"""The closest known name, for messages about unknown names."""

import time

import pytest

from analytics.suggestion import closest, did_you_mean

SETTINGS = ["RATE_LIMIT_ADDRESS", "RATE_LIMIT_KEY", "RATE_LIMIT_SITE", "REDIS_URL", "MONGODB_URI", "DATA_DIR"]
OF_A_SITE = ["timezone", "domains", "goals", "write_key", "retention_days", "honours_dnt"]
METRICS = ["visitors", "visits", "pageviews", "bounce_rate", "views_per_visit"]


@pytest.mark.parametrize(
    ("name", "known", "found"),
    [
        ("RATE_LIMIT_SITES", SETTINGS, "RATE_LIMIT_SITE"),
        ("MONGODB_URL", SETTINGS, "MONGODB_URI"),
        ("MONGO_URI", SETTINGS, "MONGODB_URI"),
        ("REDIS_URI", SETTINGS, "REDIS_URL"),
        ("data_dir", SETTINGS, "DATA_DIR"),
        ("time_zone", OF_A_SITE, "timezone"),
        ("timeZone", OF_A_SITE, "timezone"),
        ("time-zone", OF_A_SITE, "timezone"),
        ("writeKey", OF_A_SITE, "write_key"),
        ("honors_dnt", OF_A_SITE, "honours_dnt"),
        ("domain", OF_A_SITE, "domains"),
        ("visitor", METRICS, "visitors"),
        ("bounceRate", METRICS, "bounce_rate"),
        ("shop.exmaple", ["shop.example", "blog.example"], "shop.example"),
        ("EDITOR", SETTINGS, None),
        ("colour", OF_A_SITE, None),
        ("", OF_A_SITE, None),
        ("timezone", [], None),
    ],
)
def test_a_typing_error_finds_the_name_and_another_word_finds_none(name: str, known: list[str], found: str | None):
    assert closest(name, known) == found


def test_the_sentence_is_empty_if_no_name_is_close_and_escapes_what_it_quotes():
    assert did_you_mean("time_zone", OF_A_SITE) == " Did you mean 'timezone'?"
    assert did_you_mean("colour", OF_A_SITE) == ""
    assert did_you_mean("shop\x1b[31", ["shop\x1b[31m"]) == " Did you mean 'shop\\x1b[31m'?"


def test_a_long_name_and_many_known_ones_take_little_time():
    start = time.process_time()
    closest("x" * 1_000_000, OF_A_SITE)
    closest("shop-of-city-1234", (f"shop-in-town-{n}" for n in range(10_000)))
    assert time.process_time() - start < 2
