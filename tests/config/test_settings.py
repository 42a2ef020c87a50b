"""Settings come from the environment, a bad one is named, and each is in docs/configuration.md and in .env.example."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymongo.uri_parser import parse_uri

from config.celery import celery_settings
from config.clients import make_redis
from config.settings import PLAIN_MONGODB_URI, Settings, SettingsError, load_settings
from config.settings_docs import PAGE, render_page

ROOT = Path(__file__).parents[2]


def test_the_names_of_the_first_version_work(monkeypatch: pytest.MonkeyPatch):
    given = {
        "MONGODB_URI": "mongodb://db:27017/other",
        "REDIS_URL": "",
        "REDIS_HOST": "cache",
        "REDIS_PORT": "6380",
        "INGESTION_PORT": "8000",
        "REPORTING_PORT": "8001",
    }
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    settings = load_settings()
    assert settings.mongodb_uri == "mongodb://db:27017/other"
    assert settings.redis_url == "redis://cache:6380/0"
    assert (settings.ingestion_port, settings.reporting_port) == (8000, 8001)


def test_redis_url_overrides_host_and_port(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("REDIS_HOST", "cache")
    monkeypatch.setenv("REDIS_URL", "redis://elsewhere:1/2")
    assert load_settings().redis_url == "redis://elsewhere:1/2"


@pytest.mark.parametrize(
    ("name", "value"),
    [("INGESTION_PORT", "http"), ("REDIS_PORT", "70000"), ("STORE_BATCH", "0"), ("CLAIM_IDLE", "-1"),
     ("LOG_LEVEL", "LOUD"), ("LOG_FORMAT", "xml"), ("WEB_THREADS", "0"), ("REDIS_URL", "foo"), ("MONGODB_URI", "foo"),
     ("BIND_HOST", "nonsense"), ("MAX_BODY_BYTES", "2000000"), ("REDIS_SENTINELS", "host"),
     ("REDIS_SENTINELS", "host:0"), ("REDIS_SENTINELS", "a:26379,"), ("REDIS_SENTINELS", "redis://a:26379"),
     ("REDIS_REPLICAS", "-1"), ("DUCKDB_MEMORY", "lots"), ("DUCKDB_MEMORY", "1"), ("DUCKDB_THREADS", "0"),
     ("SEGMENT_DISK", "0"), ("MOST_FRESH", "0"),
     ("PUBLIC_URL", "stats.example.com"), ("PUBLIC_URL", "ftp://a"), ("PUBLIC_URL", "http://a@b"),
     ("SMTP_URL", "mail.example.com"), ("SMTP_URL", "smtp://"), ("SMTP_URL", "smtp://a:x"), ("SMTP_URL", "smtp://a/b"),
     ("MAIL_FROM", "Ann"), ("MAIL_FROM", "a@b\r\nBcc: c@d"), ("MAIL_FROM", "ä@b")],
)  # fmt: skip
def test_an_invalid_value_stops_the_start_and_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str):
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=name):
        load_settings()


@given(st.from_regex(PLAIN_MONGODB_URI, fullmatch=True))
def test_pymongo_can_read_each_uri_that_is_accepted_without_it(uri: str):
    parse_uri(uri)


def test_e_mail_needs_a_sender(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SMTP_URL", "smtp://ann:secret@mail.example.com")
    with pytest.raises(SettingsError, match="SMTP_URL needs MAIL_FROM") as caught:
        load_settings()
    assert "secret" not in str(caught.value)
    monkeypatch.setenv("MAIL_FROM", "Footfall <footfall@example.com>")
    assert load_settings().mail_from == "Footfall <footfall@example.com>"


@pytest.mark.parametrize("setting", fields(Settings), ids=lambda setting: setting.name)
def test_an_empty_value_is_the_same_as_no_value(monkeypatch: pytest.MonkeyPatch, setting):
    monkeypatch.setenv(setting.name.upper(), "")
    assert load_settings()


def test_sentinels_are_read_and_celery_uses_them_too():
    settings = Settings(redis_url="redis://user:p%40ss@unused:1/2", redis_sentinels="a:26379, [::1]:26380")
    assert settings.sentinels == [("a", 26379), ("::1", 26380)]
    celery = celery_settings(settings)
    assert celery["broker_url"] == "sentinel://user:p%40ss@a:26379/2;sentinel://user:p%40ss@[::1]:26380/2"
    assert celery["broker_transport_options"]["master_name"] == "mymaster"
    client = make_redis(settings).get_connection_kwargs()
    assert (client["username"], client["password"], client["db"]) == ("user", "p@ss", 2)


@pytest.mark.parametrize("url", ["rediss://redis:6379/0", "unix:///run/redis.sock"])
def test_sentinels_together_with_a_redis_address_stop_the_start(monkeypatch: pytest.MonkeyPatch, url: str):
    monkeypatch.setenv("REDIS_SENTINELS", "a:26379")
    monkeypatch.setenv("REDIS_URL", url)
    with pytest.raises(SettingsError, match="REDIS_SENTINELS"):
        load_settings()


def test_further_journals_have_a_name_and_a_url():
    settings = Settings(journal_urls="b=rediss://me:p%3D1@host-b:6380/0?ssl_ca_certs=ca.pem, -c=redis://host-c")
    assert settings.journals == [
        ("b", "rediss://me:p%3D1@host-b:6380/0?ssl_ca_certs=ca.pem", True),
        ("c", "redis://host-c", False),
    ]
    assert Settings().journals == []
    client = make_redis(settings, url=settings.journals[0].url).get_connection_kwargs()
    assert (client["host"], client["port"], client["password"]) == ("host-b", 6380, "p=1")
    watched = make_redis(Settings(redis_sentinels="a:26379"), url="redis://:secret@second/1")
    pool: Any = watched.connection_pool
    assert (pool.service_name, watched.get_connection_kwargs()["password"]) == ("second", "secret")


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("redis://host-b:6379/0", "JOURNAL_URLS must be names and URLs"),
        ("B=redis://host-b:6379/0", "JOURNAL_URLS must be names and URLs"),
        ("main=redis://host-b:6379/0", "JOURNAL_URLS must be names and URLs"),
        ("b=redis://host-b:6379/0,", "JOURNAL_URLS must be names and URLs"),
        ("b=redis://host-b:6379/0,b=redis://host-c:6379/0", "differs from the others"),
        ("b=http://secret@host-b:6379/0", "JOURNAL_URLS must be a Redis URL"),
        ("b=redis://:secret@main-host:6379", "JOURNAL_URLS must name other servers than REDIS_URL"),
        ("b=redis://host-b/0,c=redis://:secret@HOST-B:6379/0", "and each of them once"),
    ],
)
def test_journals_that_cannot_be_used_stop_the_start(monkeypatch: pytest.MonkeyPatch, value: str, problem: str):
    monkeypatch.setenv("REDIS_URL", "redis://main-host:6379/0")
    monkeypatch.setenv("JOURNAL_URLS", value)
    with pytest.raises(SettingsError, match=problem) as caught:
        load_settings()
    assert "secret" not in str(caught.value)


def test_settings_stay_the_same_after_they_pass_through_an_environment(monkeypatch: pytest.MonkeyPatch):
    settings = Settings(redis_url="redis://a:1/0", store_batch=7, claim_idle=1.5)
    for name, value in settings.as_environment().items():
        monkeypatch.setenv(name, value)
    assert load_settings() == settings


def test_copies_of_segments_are_in_the_data_folder_by_default():
    assert Settings(data_dir="/data").segment_folder == Path("/data/segments")
    assert Settings(data_dir="/data", segment_dir="/fast").segment_folder == Path("/fast")


def test_the_page_of_settings_is_the_one_that_make_docs_writes():
    assert PAGE.read_text(encoding="utf-8") == render_page()


@pytest.mark.parametrize("setting", fields(Settings), ids=lambda setting: setting.name)
def test_every_setting_has_its_line_in_the_example_file(setting):
    assert f"#{setting.name.upper()}=" in (ROOT / ".env.example").read_text()
