"""A published copy, apart from its contents (tests of sites and API keys read and publish those)."""

from itertools import count

from redis import Redis

from analytics.published_copy import COPY_KEPT_FOR, Published


def test_a_value_may_expire_at_any_step_of_reading_it(redis: Redis):
    """Each look at the clock is a step. At one of them the remembered value expires."""
    for step in range(1, 8):
        ticks = count()
        copy = Published[str](redis, "test:copy", str, clock=lambda: 0.0 if next(ticks) < limit else COPY_KEPT_FOR + 1)
        limit = 1_000_000
        copy.publish(lambda: {"shop": "a shop"})
        assert copy.get("shop") == "a shop"
        ticks, limit = count(), step
        assert copy.get("shop") == "a shop", f"step {step}"
