"""Anonymous visitors: the same id during a day, and past midnight as long as the visit lasts."""

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from redis import Redis

from analytics.sites.site import Site
from analytics.visitors.anonymous_ids import Act, Visitors
from analytics.visitors.client import Client
from analytics.visitors.salts import Salts

BERLIN = ZoneInfo("Europe/Berlin")
SHOP = Site("shop", BERLIN)
ANN, BOB = Client("203.0.113.7", "Firefox"), Client("203.0.113.8", "Firefox")

See = Callable[..., str]


def at(text: str) -> datetime:
    """`22 23:45` is a time of November 2026 in Berlin."""
    return datetime.strptime(f"2026-11-{text}", "%Y-%m-%d %H:%M").replace(tzinfo=BERLIN)


class World:
    """Any number of processes, and a clock that they share."""

    def __init__(self, redis: Redis) -> None:
        self.redis = redis
        self.now = at("22 12:00")
        self.process = self.another()

    def another(self) -> Visitors:
        return Visitors(self.redis, Salts(self.redis, lambda: self.now, self.seconds))

    def seconds(self) -> float:
        return self.now.timestamp()

    def sees(self, client: Client, when: str, site: Site = SHOP, occurred: str | None = None) -> str:
        self.age(at(when))
        return self.identify(self.process, Act(site, client, at(occurred or when)))[0]

    def identify(self, process: Visitors, *acts: Act) -> list[str]:
        """As the collector calls it."""
        ids, visits = process.identify(acts, self.now)
        if visits:
            process.mark(visits)
        return ids

    def age(self, now: datetime) -> None:
        """Advances the clock. Redis's own clock does not follow, so expired keys are removed here."""
        passed = int((now - self.now).total_seconds() * 1000)
        for key in self.redis.scan_iter():
            if (left := self.redis.pttl(key)) > 0:
                self.redis.pexpire(key, max(left - passed, 0))
        self.now = now


@pytest.fixture
def world(redis: Redis) -> World:
    return World(redis)


def test_a_visitor_is_the_same_all_day_and_another_one_the_day_after(world: World):
    morning = world.sees(ANN, "22 00:05")
    assert morning == world.sees(ANN, "22 12:00") == world.sees(ANN, "22 23:20")
    assert morning != world.sees(ANN, "23 00:05")
    assert world.sees(BOB, "23 00:05") != world.sees(ANN, "23 00:05")


def test_days_are_days_of_the_site_s_time_zone(world: World):
    """00:30 in Berlin is 23:30 in London."""
    london = Site("pub", ZoneInfo("Europe/London"))
    evening = world.sees(ANN, "22 22:00", london)
    assert world.sees(ANN, "23 00:20", london) == evening
    assert world.sees(ANN, "23 02:00", london) != evening


def test_a_visit_that_continues_after_midnight_keeps_its_id(world: World):
    before = world.sees(ANN, "22 23:45")
    assert world.sees(ANN, "23 00:10") == before
    assert world.sees(ANN, "23 00:35") == before
    assert world.sees(ANN, "23 01:00") == before
    after = world.sees(ANN, "23 01:31")
    assert after != before
    assert world.sees(ANN, "23 01:32") == after


def test_a_visitor_who_comes_after_midnight_gets_the_id_of_today(world: World):
    world.sees(ANN, "22 23:45")
    bob = world.sees(BOB, "23 00:05")
    world.sees(ANN, "23 00:06")
    assert world.sees(BOB, "23 12:00") == bob


def test_another_process_knows_which_visits_continue(world: World):
    before = world.sees(ANN, "22 23:45")
    world.process = world.another()
    assert world.sees(ANN, "23 00:10") == before


def test_a_visit_that_ends_before_midnight_does_not_continue(world: World):
    before = world.sees(ANN, "22 23:31")
    assert world.sees(ANN, "23 00:05") != before


def test_a_late_event_gets_the_id_of_the_day_on_which_it_occurred(world: World):
    before = world.sees(ANN, "22 23:45")
    assert world.sees(ANN, "23 09:00", occurred="22 20:00") == before
    assert world.sees(ANN, "23 09:00", occurred="22 23:50") == before
    today = world.sees(ANN, "23 09:00")
    assert world.sees(ANN, "23 09:00", occurred="21 20:00") == today, "that day's salt is destroyed"
    assert world.sees(ANN, "23 09:00", occurred="23 08:00") == today


def test_an_event_that_was_in_transit_at_midnight_keeps_a_visit_alive(world: World):
    late = world.sees(ANN, "23 00:01", occurred="22 23:59")
    assert world.sees(ANN, "23 00:20") == late


def test_a_hit_that_holds_both_sides_of_midnight_is_one_visit(world: World):
    world.age(at("23 00:10"))
    acts = [Act(SHOP, ANN, at("22 23:50")), Act(SHOP, ANN, at("23 00:05")), Act(SHOP, BOB, at("23 00:05"))]
    first, second, other = world.identify(world.process, *acts)
    assert first == second != other


def test_away_from_midnight_redis_is_not_queried(world: World):
    world.sees(ANN, "22 23:45")
    world.sees(ANN, "23 08:00")
    world.sees(ANN, "23 08:01")
    asked = world.redis.info("stats")["total_commands_processed"]
    for minute in range(10):
        world.process.identify([Act(SHOP, ANN, at(f"23 08:0{minute}"))], at(f"23 08:0{minute}"))
    assert world.redis.info("stats")["total_commands_processed"] == asked + 1, "the look at the statistics"


def test_in_the_first_minute_of_a_day_no_process_remembers_that_no_visit_continues(world: World):
    first = world.another()
    world.age(at("23 00:00") + timedelta(seconds=1))
    world.identify(first, Act(SHOP, BOB, world.now))
    late = world.sees(ANN, "23 00:00", occurred="22 23:59")
    world.age(at("23 00:02"))
    assert world.identify(first, Act(SHOP, ANN, world.now)) == [late]


def test_marks_are_written_on_a_loop_as_by_a_thread(world: World):
    world.age(at("22 23:45"))
    (before,), visits = world.process.identify([Act(SHOP, ANN, world.now)], world.now)

    async def mark() -> None:
        async with world.process.marking_on_loop() as marking:
            await marking(visits)

    asyncio.run(mark())
    assert world.sees(ANN, "23 00:10") == before


def test_before_midnight_nothing_is_asked(world: World):
    world.sees(BOB, "22 23:40")
    asked = world.redis.info("stats")["total_commands_processed"]
    world.process.identify([Act(SHOP, ANN, at("22 23:45"))], at("22 23:45"))
    assert world.redis.info("stats")["total_commands_processed"] == asked + 1, "the look at the statistics"
