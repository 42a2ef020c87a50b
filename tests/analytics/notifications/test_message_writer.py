"""Which language a notification has: that of the account with the address, of the rule, or of the installation."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest
from pymongo.database import Database

from analytics.notifications.checker import RuleChecker
from analytics.notifications.message_writer import MessageWriter
from analytics.notifications.rule import Rule
from analytics.notifications.store import NotificationStore
from tests.analytics.notifications.conftest import Time
from tests.support.accounts import make_owner

GERMAN, ENGLISH = "shop: eine Testbenachrichtigung", "shop: a test notification"
ANN = "ann@example.com"
Add = Callable[..., Rule]


@pytest.mark.parametrize(
    ("languages", "subject"),
    [(("de", "en", "en"), GERMAN), (("en", "de", "de"), ENGLISH), (("", "de", "en"), GERMAN),
     ((None, "de", "en"), GERMAN), ((None, "en", "de"), ENGLISH), (("", None, "de"), GERMAN),
     ((None, None, "en"), ENGLISH), (("xx", "xx", "de"), GERMAN)],
)  # fmt: skip
def test_an_email_is_in_the_language_of_its_reader(
    writer: MessageWriter, add: Add, languages: tuple[str | None, str | None, str], subject: str
):
    """`languages`: that of the account, None without an account; that of the rule; that of the installation."""
    chosen, of_the_rule, default = languages
    if chosen is not None:
        writer.accounts.set_language(make_owner(writer.accounts, ANN).id, chosen)
    rule = replace(add("lag", target="Ann@Example.com"), language=of_the_rule)
    assert replace(writer, default_language=default).write_test(rule).subject == subject


def test_a_webhook_is_in_the_language_of_its_rule(writer: MessageWriter, add: Add):
    rule = add("lag", channel="slack", target="https://example.com/ann", language="de")
    assert writer.write_test(rule).subject == GERMAN
    assert writer.write_test(replace(rule, language=None)).subject == ENGLISH


def test_an_alarm_and_a_summary_speak_the_language_that_the_account_has_now(
    checker: RuleChecker,
    time: Time,
    add: Add,
    happen: Callable[[int, datetime], None],
    notifications: Callable[[], list[str]],
):
    accounts = checker.writer.accounts
    ann = make_owner(accounts, ANN)
    add("monthly"), add("weekly")
    happen(3, time())
    time.passes(days=7)
    checker.check()
    accounts.set_language(ann.id, "de")
    time.passes(days=7)
    checker.check()
    assert sorted(notifications()) == [
        "shop: 0 Besucher in der Woche ab 2026-11-23",
        "shop: 3 Besucher im Monat ab 2026-11-01",
        "shop: 3 visitors in the week of 2026-11-16",
    ]


def test_a_rule_of_an_earlier_version_has_no_language(
    store: NotificationStore, database: Database[dict[str, Any]], add: Add
):
    rule = add("lag", language="de")
    assert store.rule(rule.id) == rule
    database["notification_rules"].update_one({"_id": rule.id}, {"$unset": {"language": ""}})
    assert store.rule(rule.id) == replace(rule, language=None)
