"""Salts: the same for all processes, for two days, and then removed, also from Redis's file.

The tests also cover the values that are sealed with them.
"""

from collections.abc import Callable
from datetime import date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from redis import Redis

from analytics.unavailable import Unavailable
from analytics.visitors.client import Client
from analytics.visitors.salts import REWRITE, SALTS, SaltKeeper, Salts, visitor_id
from config.clients import make_redis
from config.settings import Settings
from tests.support.running_system import wait_for
from tests.support.services import NOW

UTC_ZONE, BERLIN = ZoneInfo("UTC"), ZoneInfo("Europe/Berlin")
TODAY = date(2026, 11, 22)
ANN = Client("203.0.113.7", "Mozilla/5.0 (Test)", "de-DE,de;q=0.9", (("country", "DE"), ("city", "Köln")))


class Clock:
    """The two clocks of Salts."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now

    def monotonic(self) -> float:
        return self.now.timestamp()

    def forward(self, **how: float) -> None:
        self.now += timedelta(**how)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def make(redis: Redis, settings: Settings, clock: Clock) -> Callable[[], Salts]:
    """Another process at each call."""
    return lambda: Salts(make_redis(settings), clock, clock.monotonic)


def test_every_process_gets_the_same_salt(make: Callable[[], Salts]):
    salt = make().of(BERLIN, TODAY)
    assert len(salt) == 32
    assert salt == make().of(BERLIN, TODAY)
    others = {make().of(BERLIN, TODAY - timedelta(days=1)), make().of(UTC_ZONE, TODAY)}
    assert len(others - {salt}) == 2


def test_a_salt_lives_until_the_end_of_the_day_after_in_its_zone(redis: Redis, make: Callable[[], Salts]):
    make().of(BERLIN, TODAY)
    over = datetime(2026, 11, 24, tzinfo=BERLIN)
    assert redis.ttl("footfall:salt:2026-11-22:Europe/Berlin") == pytest.approx((over - NOW).total_seconds(), abs=2)


def test_no_process_remembers_a_salt_longer(make: Callable[[], Salts], clock: Clock):
    salts = make()
    salts.of(UTC_ZONE, TODAY)
    clock.forward(days=1, hours=12)
    with pytest.raises(ValueError, match="destroyed"):
        salts.of(UTC_ZONE, TODAY)
    salts.of(UTC_ZONE, TODAY + timedelta(days=1))
    assert [day for _, day in salts._remembered] == [TODAY + timedelta(days=1)]


def test_a_redis_that_lost_a_salt_gets_it_from_a_process(redis: Redis, make: Callable[[], Salts], clock: Clock):
    salts = make()
    salt = salts.of(UTC_ZONE, TODAY)
    redis.flushall()
    clock.forward(minutes=1)
    assert salts.of(UTC_ZONE, TODAY) == salt
    assert make().of(UTC_ZONE, TODAY) == salt


def test_of_two_different_salts_the_one_in_redis_is_used(redis: Redis, make: Callable[[], Salts], clock: Clock):
    first, second = make(), make()
    first.of(UTC_ZONE, TODAY)
    redis.flushall()
    salt = second.of(UTC_ZONE, TODAY)
    clock.forward(minutes=1)
    assert first.of(UTC_ZONE, TODAY) == salt


def test_without_redis_there_is_no_salt_and_the_second_call_fails_at_once(clock: Clock):
    nowhere = Salts(make_redis(Settings(redis_url="redis://127.0.0.1:1/0")), clock)
    with pytest.raises(Unavailable, match="ConnectionError"):
        nowhere.of(UTC_ZONE, TODAY)
    with pytest.raises(Unavailable, match="no answer a moment ago"):
        nowhere.unseal(f"{TODAY}.AAAA")


def test_a_visitor_is_the_same_for_a_day_on_one_site_only():
    salt, other = b"a" * 32, b"b" * 32
    ann = visitor_id(salt, "shop", ANN)
    assert len(ann) == 16
    assert ann == visitor_id(salt, "shop", Client(ANN.address, ANN.user_agent))
    differ = [(other, "shop", ANN), (salt, "blog", ANN), (salt, "shop", Client("203.0.113.8", ANN.user_agent))]
    differ += [(salt, "shop", Client(ANN.address, "\ud800"))]
    assert len({ann, *(visitor_id(*one) for one in differ)}) == 5


@pytest.mark.parametrize("client", [ANN, Client(), Client("::1", "\ud800\0é" * 100)], ids=["all", "none", "odd"])
def test_another_process_can_unseal_a_client(make: Callable[[], Salts], client: Client):
    sealed = make().seal(client, TODAY)
    assert make().unseal(sealed) == client
    assert make().seal(client, TODAY) != sealed


def test_a_sealed_client_shows_no_plain_text(make: Callable[[], Salts]):
    sealed = make().seal(ANN, TODAY)
    assert sealed.startswith("2026-11-22.")
    assert not any(part in sealed for part in ("203.0.113", "Mozilla"))


def test_a_sealed_client_cannot_be_read_after_its_salt_is_destroyed(make: Callable[[], Salts], clock: Clock):
    salts = make()
    sealed = salts.seal(ANN, TODAY)
    clock.forward(hours=35)
    assert make().unseal(sealed) == salts.unseal(sealed) == ANN
    clock.forward(hours=1)
    assert make().unseal(sealed) is salts.unseal(sealed) is None


@pytest.mark.parametrize(
    "text", ["", "x", "2026-11-22", "2026-11-22.", "2026-11-22.AAAA", "2026-11-22." + "A" * 80, "2026-11-22.\u00e4",
             "2026-11-20.AAAA", "9999-99-99.AAAA", "0001-01-01.AAAA", "9999-12-31.AAAA"],
)  # fmt: skip
def test_text_that_was_never_sealed_gives_no_client(make: Callable[[], Salts], text: str):
    salts = make()
    salts.of(UTC_ZONE, TODAY)
    assert salts.unseal(text) is None


def test_unsealing_creates_no_salt(redis: Redis, make: Callable[[], Salts]):
    assert make().unseal("2026-11-22." + "A" * 80) is None
    assert redis.dbsize() == 0


def test_an_expired_salt_is_removed_from_redis_s_file_too(redis: Redis, clock: Clock):
    """The salt is written to the file, found there, destroyed, and not found."""
    folder = Path(redis.config_get("dir")["dir"])
    salts = Salts(redis, clock, clock.monotonic)
    keeper = SaltKeeper(redis, clock)
    salts.of(UTC_ZONE, TODAY)
    old = redis.get("footfall:salt:2026-11-22:UTC")
    clock.forward(days=1)
    in_use = salts.of(UTC_ZONE, TODAY + timedelta(days=1))
    young = redis.get("footfall:salt:2026-11-23:UTC")
    assert holds(folder, old)
    assert keeper.destroy() == 0, "none is over"
    clock.forward(hours=12)
    assert keeper.destroy() == 1
    wait_for(lambda: not redis.info("persistence")["aof_rewrite_in_progress"], "the end of the rewrite")
    assert not holds(folder, old)
    assert holds(folder, young)
    assert redis.zcard(SALTS) == 2, "on the list until a later call has seen it"
    assert keeper.destroy() == 0
    assert redis.zrange(SALTS, 0, -1) == [b"footfall:salt:2026-11-23:UTC"]
    assert salts.of(UTC_ZONE, TODAY + timedelta(days=1)) == in_use


def test_a_redis_that_died_during_its_rewrite_is_asked_again(redis: Redis, clock: Clock):
    Salts(redis, clock).of(UTC_ZONE, TODAY)
    clock.forward(days=2)
    redis.set(REWRITE, f"{clock().timestamp()} another-run")
    keeper = SaltKeeper(redis, clock)
    assert keeper.destroy() == 1
    wait_for(lambda: not redis.info("persistence")["aof_rewrite_in_progress"], "the end of the rewrite")
    assert keeper.destroy() == 0
    assert not redis.exists(SALTS, REWRITE)


def test_a_redis_that_forbids_the_rewrite_is_unavailable(redis: Redis, settings: Settings, clock: Clock):
    Salts(redis, clock).of(UTC_ZONE, TODAY)
    clock.forward(days=2)
    redis.execute_command("ACL", "SETUSER", "tenant", "on", ">secret", "~*", "+@all", "-bgrewriteaof")
    port = redis.get_connection_kwargs()["port"]
    tenant = Redis(port=port, username="tenant", password="secret", protocol=2)
    try:
        with pytest.raises(Unavailable, match="NoPermissionError"):
            SaltKeeper(tenant, clock).destroy()
    finally:
        tenant.close()
        redis.execute_command("ACL", "DELUSER", "tenant")


def holds(folder: Path, salt: bytes) -> bool:
    return any(salt in file.read_bytes() for file in folder.rglob("*") if file.is_file())


def test_the_files_of_redis_alone_do_not_open_a_seal(redis: Redis, clock: Clock):
    sealed = Salts(redis, clock, keys=[b"the secret"]).seal(ANN, TODAY)
    assert Salts(redis, clock).unseal(sealed) is None
    assert Salts(redis, clock, keys=[b"another"]).unseal(sealed) is None
    assert Salts(redis, clock, keys=[b"the secret"]).unseal(sealed) == ANN


def test_a_new_secret_key_changes_no_visitor_id_while_the_old_key_is_set(redis: Redis, clock: Clock):
    old = Salts(redis, clock, keys=[b"old"])
    both = Salts(redis, clock, keys=[b"new", b"old"])
    sealed, salt = old.seal(ANN, TODAY), old.of(BERLIN, TODAY)
    assert both.of(BERLIN, TODAY) == salt
    assert both.unseal(sealed) == ANN
    tomorrow = TODAY + timedelta(days=1)
    salt = both.of(BERLIN, tomorrow)  # created after the change, so it does not need the old key
    assert Salts(redis, clock, keys=[b"new"]).of(BERLIN, tomorrow) == salt
    assert old.of(BERLIN, tomorrow) != salt
