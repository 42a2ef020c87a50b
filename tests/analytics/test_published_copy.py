"""A published copy, apart from its contents (tests of sites and API keys read and publish those)."""

from itertools import chain, repeat

from redis import Redis

from analytics.published_copy import COPY_KEPT_FOR, Published


def test_a_value_may_expire_at_any_step_of_reading_it(redis: Redis):
    """Each look at the clock is a step. At one of them the remembered value expires."""
    for step in range(1, 8):
        clock = chain(repeat(0.0, 2), repeat(0.0, step), repeat(COPY_KEPT_FOR + 1))
        copy = Published[str](redis, "test:copy", str, clock=clock.__next__)
        copy.publish(lambda: {"shop": "a shop"})
        assert [copy.get("shop") for _ in range(4)] == ["a shop"] * 4, f"step {step}"
