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


def test_only_what_changed_is_written(redis: Redis):
    copy = Published[str](redis, "test:copy", str)
    published: dict[str, object] = {f"site {number}": "x" * 200 for number in range(2000)}
    copy.publish(lambda: published)

    def received() -> int:
        return int(redis.info("stats")["total_net_input_bytes"])  # type: ignore[index]

    before = received()
    del published["site 7"]
    published |= {"site 8": "changed", "ümlaut": "new"}
    assert copy.publish(lambda: published)
    assert received() - before < 5_000
    assert redis.hget("test:copy", "site 8") == b'"changed"'
    assert redis.hkeys("test:copy").count(b"site 7") == 0
    assert redis.hlen("test:copy") == len(published) + 1


def test_a_copy_that_is_lost_while_another_is_made_is_published_again(redis: Redis):
    copy = Published[str](redis, "test:copy", str)
    copy.publish(lambda: {"shop": "a shop", "blog": "a blog"})
    redis.hdel("test:copy", "blog")
    assert copy.publish(lambda: {"shop": "a shop", "blog": "a blog"}), "a field was lost"
    redis.delete("test:copy")
    assert copy.publish(lambda: {"shop": "a shop", "blog": "a blog"}), "all were lost"
    assert copy.get("blog") == "a blog"
    assert not copy.publish(lambda: {"shop": "a shop", "blog": "a blog"})
