"""`python -m footfall notifications`, on real stores and a real SMTP server."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from click.testing import CliRunner, Result
from pymongo.database import Database
from redis import Redis

from analytics.sites.site import Site
from analytics.sites.store import SiteStore
from config.settings import Settings
from footfall.embedded_servers import pick_port
from footfall.notifications import notifications
from tests.support.receivers import Mailbox, smtp_server

Run = Callable[..., Result]
MAIL = ("shop", "lag", "email", "ann@example.com")
HOOK = ("shop", "silence", "webhook", "https://hooks.invalid/a?token=1")


@pytest.fixture
def mailbox() -> Iterator[Mailbox]:
    with smtp_server() as mailbox:
        yield mailbox


@pytest.fixture
def run(settings: Settings, redis: Redis, database: Database[dict[str, Any]], mailbox: Mailbox) -> Run:
    SiteStore(database).put(Site("shop"))
    with_mail = replace(settings, smtp_url=mailbox.url, mail_from="footfall@example.com")

    def run(*words: str, given: Settings = with_mail) -> Result:
        return CliRunner().invoke(notifications, words, obj=given)

    return run


def test_a_rule_is_added_listed_tested_and_removed(run: Run, mailbox: Mailbox):
    made = run("add", *MAIL, "--threshold", "7")
    assert (made.exit_code, made.stderr) == (0, "")
    rule = made.stdout.strip()
    line = run("list").stdout.splitlines()[1]
    assert line.split() == [rule, "lag", "7", "email", "ann@example.com", "shop"]
    assert run("list", "--site", "other").stdout.count("\n") == 1
    assert run("test", rule).stdout.endswith("sent to ann@example.com\n")
    assert [message["To"] for message in mailbox.messages] == ["ann@example.com"]
    assert "sent      email    ann@example.com  shop: a test notification" in run("log").stdout
    assert run("log", "--state", "failed").stdout == ""
    assert run("change", rule, "--threshold", "9", "--target", "eve@example.com").exit_code == 0
    assert run("list").stdout.splitlines()[1].split() == [rule, "lag", "9", "email", "eve@example.com", "shop"]
    assert "threshold: " in run("change", rule, "--threshold", "0").stderr
    assert run("remove", rule).exit_code == 0
    assert run("remove", rule).exit_code == 1
    assert "there is no rule" in run("change", rule, "--threshold", "7").stderr
    assert run("test", rule).exit_code == 1


def test_the_secret_of_a_webhook_is_shown_once_and_its_url_never(run: Run):
    made = run("add", *HOOK)
    rule, secret = made.stdout.split()
    assert secret.startswith("whsec_")
    assert "shown only now" in made.stderr
    tested = run("test", rule)
    assert (tested.exit_code, "hooks.invalid was not found" in tested.stderr) == (1, True)
    for shown in (run("list").stdout, run("log").stdout, tested.stderr):
        assert "https://hooks.invalid/..." in shown
        assert "token" not in shown
        assert secret not in shown


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((*MAIL[:3], "ann"), "target: Not an e-mail address"),
        ((*MAIL, "--threshold", "0"), "threshold: "),
        (("shop", "goal", *MAIL[2:], "--goal", "sale", "--threshold", "1"), "goal: The site has no goal 'sale'."),
        (("shpo", *MAIL[1:]), "There is no site 'shpo'. Did you mean 'shop'?"),
    ],
)
def test_a_rule_that_is_refused_says_why(run: Run, words: tuple[str, ...], said: str):
    refused = run("add", *words)
    assert refused.exit_code == 1
    assert said in refused.stderr


def test_without_a_mail_server_no_rule_sends_e_mail(run: Run, settings: Settings):
    assert "Set SMTP_URL and MAIL_FROM" in run("add", *MAIL, given=settings).stderr
    rule = run("add", *MAIL).stdout.strip()
    assert "Set SMTP_URL and MAIL_FROM" in run("test", rule, given=settings).stderr


@pytest.mark.usefixtures("usual_limits")
def test_without_mongodb_one_line_says_so(run: Run, settings: Settings):
    away = replace(settings, mongodb_uri=f"mongodb://127.0.0.1:{pick_port(0)}/footfall")
    answer = run("list", given=away)
    assert (answer.exit_code, answer.stderr.count("\n")) == (1, 1)
    assert "MongoDB" in answer.stderr
