"""Each kind of rule notifies once in each episode or period, no matter how often and by how many it is checked."""

import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta
from threading import Barrier
from typing import Any

import pytest
from marshmallow import ValidationError
from pymongo import MongoClient
from pymongo.database import Database
from redis import Redis

from analytics.journal.journal import JOURNAL_KEY
from analytics.journal.ledger import LAST_RECEIVED
from analytics.notifications import store as store_module
from analytics.notifications.checker import RuleChecker
from analytics.notifications.rule import Rule
from analytics.notifications.rule_schema import load_rule
from analytics.notifications.store import NotificationStore
from analytics.sites.schema import load_site
from analytics.sites.store import UnknownSite
from analytics.unavailable import Unavailable
from config.services import Services
from config.settings import Settings
from footfall.embedded_servers import pick_port
from tests.analytics.notifications.conftest import Time
from tests.support.running_system import ROOT, wait_for
from tests.support.services import NOW

CHECKING = """
import sys
from datetime import datetime
from config.services import Services
from config.settings import Settings
mongodb_uri, redis_url, now = sys.argv[1:]
ours = Services(Settings(mongodb_uri=mongodb_uri, redis_url=redis_url), now=lambda: datetime.fromisoformat(now))
ours.rule_checker.check()
"""

Add = Callable[..., Rule]
Happen = Callable[..., None]
Subjects = Callable[[], list[str]]
DAY, WEEK = timedelta(days=1), timedelta(days=7)


def usual(happen: Happen, count: int, moment: datetime = NOW) -> None:
    """The events at the same time of the day and of the week before."""
    happen(count, moment - DAY)
    happen(count, moment - WEEK)


def wait_in_journal(redis: Redis, since: datetime) -> None:
    redis.delete(JOURNAL_KEY)
    redis.xadd(JOURNAL_KEY, {"event": "{}", "account": "2026-11-22 shop"}, id=f"{int(since.timestamp() * 1000)}-0")


def accepted(redis: Redis, moment: datetime) -> None:
    redis.hset(LAST_RECEIVED, "shop", int(moment.timestamp() * 1000))


def test_a_spike_notifies_once_until_it_is_over(
    add: Add, happen: Happen, checker: RuleChecker, time: Time, notifications: Subjects
):
    rule = add("spike", threshold=100)
    usual(happen, 60)
    happen(119, NOW)
    checker.check()
    assert notifications() == [], "119 are less than twice 60"
    happen(2, NOW, path="/more")
    for _ in range(3):
        checker.check()
    assert notifications() == ["shop: 121 events in the last hour, at most 60 is usual"]
    time.passes(minutes=61)
    assert checker.check().notifications == 0
    assert checker.store.rule(rule.id) == rule, "the episode is over"
    usual(happen, 60, time.now)
    happen(200, time.now)
    assert checker.check().notifications == 1


def test_a_number_at_the_threshold_notifies_once(
    add: Add, happen: Happen, checker: RuleChecker, notifications: Subjects, database: Database[dict[str, Any]]
):
    """All counts are of the same 60 minutes, except the last one."""
    add("spike", threshold=100)
    usual(happen, 60)
    happen(121, NOW)
    for left in (121, 119, 121, 95, 121):
        database["events"].delete_many({"timestamp": {"$gt": NOW - timedelta(hours=1)}})
        happen(left, NOW)
        checker.check()
    assert len(notifications()) == 1, "it ends below 90"
    database["events"].delete_many({"timestamp": {"$gt": NOW - timedelta(hours=1)}})
    checker.check()
    happen(121, NOW)
    checker.now.passes(seconds=1)
    checker.check()
    assert len(notifications()) == 2


def test_a_drop_is_less_than_on_the_day_and_in_the_week_before(
    add: Add, happen: Happen, checker: RuleChecker, notifications: Subjects
):
    add("drop", threshold=50)
    happen(200, NOW - DAY)
    checker.check()
    assert notifications() == [], "there is no week before"
    happen(80, NOW - WEEK)
    happen(41, NOW)
    checker.check()
    assert notifications() == [], "41 are not half of 80"
    happen(80, NOW - WEEK, path="/more")
    checker.check()
    checker.check()
    assert notifications() == ["shop: 41 events in the last hour, at least 160 is usual"]


def test_a_small_site_has_neither_spikes_nor_drops(
    add: Add, happen: Happen, checker: RuleChecker, notifications: Subjects
):
    add("spike", threshold=10)
    add("drop", threshold=10)
    usual(happen, 10)
    happen(49, NOW)
    checker.check()
    assert notifications() == []


def test_a_drop_ends_when_events_return_after_days_without_them(
    add: Add, happen: Happen, checker: RuleChecker, time: Time, notifications: Subjects
):
    rule = add("drop", threshold=50)
    usual(happen, 100)
    checker.check()
    assert len(notifications()) == 1
    time.passes(hours=25)
    happen(100, time.now)
    checker.check()
    assert checker.store.rule(rule.id) == rule, "the episode is over"


def test_the_first_events_of_a_site_are_no_spike(
    add: Add, happen: Happen, checker: RuleChecker, time: Time, notifications: Subjects
):
    add("spike", threshold=100)
    happen(200, NOW)
    checker.check()
    assert notifications() == []
    time.passes(hours=48)
    happen(200, time.now)
    checker.check()
    assert len(notifications()) == 1, "yesterday had no events, and the days before had some"


def test_events_that_wait_in_the_journal_are_no_drop(
    add: Add, happen: Happen, checker: RuleChecker, notifications: Subjects, redis: Redis
):
    add("drop")
    usual(happen, 100)
    wait_in_journal(redis, NOW - timedelta(seconds=61))
    checker.check()
    assert notifications() == []
    wait_in_journal(redis, NOW - timedelta(seconds=59))
    checker.check()
    assert len(notifications()) == 1


def test_silence_is_unusual(add: Add, happen: Happen, checker: RuleChecker, notifications: Subjects, redis: Redis):
    time: Any = checker.now
    add("silence", threshold=30)
    accepted(redis, NOW - timedelta(minutes=31))
    checker.check()
    assert notifications() == [], "at this time of the day the site has no events"
    usual(happen, 1)
    checker.check()
    checker.check()
    assert notifications() == ["shop: no event for 30 minutes"]
    accepted(redis, time.now)
    checker.check()
    time.passes(minutes=29)
    checker.check()
    usual(happen, 1, time.now)
    assert len(notifications()) == 1
    time.passes(minutes=1)
    checker.check()
    assert len(notifications()) == 2


def test_a_site_whose_last_event_is_forgotten_is_silent(
    add: Add, happen: Happen, checker: RuleChecker, notifications: Subjects
):
    """Redis lost its data, and no event arrived since."""
    add("silence", threshold=30)
    usual(happen, 1)
    checker.check()
    assert len(notifications()) == 1


def test_dead_letters_notify_once_a_day(
    add: Add, checker: RuleChecker, time: Time, notifications: Subjects, redis: Redis
):
    def die(day: str, site: str = "shop") -> None:
        redis.sadd("footfall:books", f"footfall:books:{day}")
        redis.hincrby(f"footfall:books:{day}", f"dead {site}", 1)

    add("dead_letters", threshold=2)
    die("2026-11-22")
    die("2026-11-22", "other")
    checker.check()
    assert notifications() == []
    die("2026-11-22")
    checker.check()
    die("2026-11-22")
    checker.check()
    assert notifications() == ["shop: 2 dead letters"]
    time.passes(days=1)
    checker.check()
    assert len(notifications()) == 1
    die("2026-11-23")
    die("2026-11-23")
    checker.check()
    assert len(notifications()) == 2


def test_a_clock_that_goes_back_to_a_period_does_not_repeat_its_notification(
    add: Add, checker: RuleChecker, time: Time, notifications: Subjects, redis: Redis
):
    add("dead_letters")
    for day in ("2026-11-22", "2026-11-23"):
        redis.sadd("footfall:books", f"footfall:books:{day}")
        redis.hset(f"footfall:books:{day}", "dead shop", 1)
    for days in (0, 1, -1, 1):
        time.passes(days=days)
        checker.check()
    assert len(notifications()) == 2


def test_lag_ends_when_half_of_it_is_left(
    add: Add, checker: RuleChecker, time: Time, notifications: Subjects, redis: Redis
):
    add("lag", threshold=10)
    for minutes, count in ((9, 0), (11, 1), (12, 1), (6, 1), (11, 1), (4, 1), (10, 2)):
        time.passes(seconds=1)
        wait_in_journal(redis, time.now - timedelta(minutes=minutes))
        checker.check()
        assert len(notifications()) == count, minutes
    assert notifications()[0] == "shop: events wait for 11 minutes"


def test_a_goal_notifies_once_in_its_period(
    add: Add, happen: Happen, checker: RuleChecker, time: Time, notifications: Subjects
):
    add("goal", goal="signup", threshold=3, period="week")
    happen(2, NOW, event_type="signup")
    happen(5, NOW)
    checker.check()
    assert notifications() == []
    happen(1, NOW - timedelta(hours=1), event_type="signup")
    checker.check()
    checker.check()
    assert notifications() == ["shop: 3 conversions of signup"]
    time.passes(days=7)
    checker.check()
    assert len(notifications()) == 1
    happen(3, time.now, event_type="signup")
    checker.check()
    assert len(notifications()) == 2


def test_a_summary_has_the_figures_of_the_last_period(
    add: Add, happen: Happen, checker: RuleChecker, time: Time, database: Database[dict[str, Any]]
):
    """NOW is a Sunday. The week in which the rule is created is the first that it summarizes."""
    add("weekly")
    happen(30, NOW, country="DE", source="Google")
    happen(20, NOW - WEEK, path="/before")
    happen(1, NOW, event_type="signup", user_id="0", country="DE", source="Google")
    checker.check()
    assert database["notifications"].count_documents({}) == 0
    time.passes(days=1)
    for _ in range(3):
        checker.check()
    (found,) = database["notifications"].find()
    assert found["subject"] == "shop: 30 visitors in the week of 2026-11-16"
    assert found["text"].splitlines()[:4] == [
        "shop, 2026-11-16 to 2026-11-22, compared with the week before",
        "",
        "Visitors:        30 (+50%)",
        "Visits:          30 (+50%)",
    ]
    for line in ("       30  /", "       30  Google", "       30  Germany", "        1  signup"):
        assert line in found["text"].splitlines()
    assert found["text"].endswith("https://stats.example.com/site/shop")
    assert found["data"]["figures"]["visitors"] == {"value": 30, "before": 20}


def test_a_site_without_events_has_a_summary(add: Add, checker: RuleChecker, time: Time, notifications: Subjects):
    add("monthly")
    time.passes(days=10)
    checker.check()
    checker.check()
    assert notifications() == ["shop: 0 visitors in the month of 2026-11-01"]


def test_hostile_names_stay_on_their_line(
    add: Add, happen: Happen, checker: RuleChecker, time: Time, database: Database[dict[str, Any]]
):
    add("weekly")
    happen(1, NOW, path="/\r\nVisitors: 1000000\x1b[2J" + "x" * 1000)
    time.passes(days=1)
    checker.check()
    (found,) = database["notifications"].find()
    assert "\r" not in found["text"]
    assert "\x1b" not in found["text"]
    (line,) = (line for line in found["text"].splitlines() if "1000000" in line)
    assert len(line) < 120


def test_several_processes_that_check_at_once_notify_once(
    add: Add, happen: Happen, checker: RuleChecker, notifications: Subjects
):
    for _ in range(3):
        add("spike")
    happen(1, NOW - WEEK)
    happen(100, NOW)
    start = Barrier(4)

    def check(_: int) -> int:
        start.wait()
        return checker.check().notifications

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(check, range(4))) == 3
    assert len(notifications()) == 3


def test_processes_that_are_killed_while_they_check_notify_once(
    add: Add, happen: Happen, checker: RuleChecker, notifications: Subjects, settings: Settings
):
    """Each is killed when it has recorded some of the notifications, at whatever step it then is."""
    for _ in range(30):
        add("spike")
    happen(1, NOW - WEEK)
    happen(100, NOW)
    command = [sys.executable, "-c", CHECKING, settings.mongodb_uri, settings.redis_url, NOW.isoformat()]
    for recorded in (1, 6, 11, 16):
        with subprocess.Popen(command, cwd=ROOT) as process:
            wait_for(lambda least=recorded: len(notifications()) >= least, "some notifications")
            process.send_signal(signal.SIGKILL)
    left = 30 - len(notifications())
    assert checker.check().notifications == left
    assert len(notifications()) == 30


def test_a_rule_that_cannot_be_checked_does_not_affect_the_others(
    add: Add, happen: Happen, checker: RuleChecker, notifications: Subjects
):
    add("goal", goal="signup", threshold=1)
    checker.sites.put(load_site("shop", {}))
    add("spike")
    happen(1, NOW - WEEK)
    happen(100, NOW)
    assert checker.check().rules == 2
    assert len(notifications()) == 1


@pytest.mark.usefixtures("usual_limits")
def test_without_mongodb_the_check_fails_at_once(checker: RuleChecker):
    with MongoClient(f"mongodb://127.0.0.1:{pick_port(0)}", serverSelectionTimeoutMS=100) as away:
        unreachable = NotificationStore(away["footfall"], checker.sites, can_mail=True)
        with pytest.raises(Unavailable):
            replace(checker, store=unreachable).check()


def test_a_rule_is_refused_if_it_could_never_notify(services: Services, add: Add, monkeypatch: pytest.MonkeyPatch):
    def faults(**changes: object) -> list[str]:
        body = {"site_id": "shop", "kind": "lag", "channel": "webhook", "target": "https://example.com"} | changes
        with pytest.raises(ValidationError) as caught:
            NotificationStore(services.database, services.sites, can_mail=False).add(load_rule(body, NOW))
        return [f"{name}: {said[0]}" for name, said in caught.value.messages_dict.items()]

    mail = {"channel": "email", "target": "a@example.com"}
    assert faults(**mail) == ["channel: E-mail is not set up. Set SMTP_URL and MAIL_FROM."]
    goal = faults(kind="goal", goal="singup", threshold=1)
    assert goal == ["goal: The site has no goal 'singup'. Did you mean 'signup'?"]
    with pytest.raises(UnknownSite):
        add("lag", site_id="shpo")
    monkeypatch.setattr(store_module, "MOST_RULES", 0)
    assert faults() == ["kind: There are 0 rules already. Remove one first."]


def test_a_rule_belongs_to_the_site_that_a_domain_names(services: Services, add: Add, store: NotificationStore):
    services.sites.put(load_site("shop", {"domains": ["shop.example"]}))
    assert add("lag", site_id="www.shop.example").site_id == "shop"
    assert len(store.rules("shop")) == 1
    assert store.rules("other") == []
