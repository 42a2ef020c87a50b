from functools import partial

import pytest

from analytics.timed_cache import TimedCache


def test_a_value_is_read_once_in_its_time():
    now, values = [0.0], iter("abc")
    cache: TimedCache[str, str] = TimedCache(10, 5.0, lambda: now[0])
    read = partial(next, values)

    assert [cache.get("key", read), cache.get("key", read)] == ["a", "a"]
    now[0] = 5.0
    assert [cache.get("key", read), cache.get("key", read)] == ["b", "b"]
    cache.clear()
    assert cache.get("key", read) == "c"


def test_a_value_that_was_read_before_the_cache_was_cleared_is_not_remembered():
    cache: TimedCache[str, str] = TimedCache(10, 5.0, lambda: 0.0)

    def read_and_be_overtaken() -> str:
        cache.clear()
        return "old"

    assert cache.get("key", read_and_be_overtaken) == "old"
    assert cache.get("key", lambda: "new") == "new"


def test_values_that_are_not_remembered_are_read_together():
    now, asked = [0.0], list[list[str]]()
    cache: TimedCache[str, str] = TimedCache(10, 5.0, lambda: now[0])

    def read(keys: list[str]) -> dict[str, str]:
        asked.append(keys)
        return {key: key.upper() for key in keys}

    assert cache.get("a", lambda: "A") == "A"
    for _ in range(2):
        assert cache.get_all(["a", "b", "c"], read) == {"a": "A", "b": "B", "c": "C"}
    assert asked == [["b", "c"]]
    assert cache.get("b", lambda: "other") == "B"
    now[0] = 5.0
    assert cache.get_all(["a", "b"], read) == {"a": "A", "b": "B"}
    assert asked[1:] == [["a", "b"]]


def test_values_that_were_read_together_before_the_cache_was_cleared_are_not_remembered():
    cache: TimedCache[str, str] = TimedCache(10, 5.0, lambda: 0.0)

    def read_and_be_overtaken(keys: list[str]) -> dict[str, str]:
        cache.clear()
        return dict.fromkeys(keys, "old")

    assert cache.get_all(["key"], read_and_be_overtaken) == {"key": "old"}
    assert cache.get("key", lambda: "new") == "new"


def test_a_missing_value_is_remembered_and_a_failure_is_not():
    cache: TimedCache[str, str | None] = TimedCache(10, 5.0, lambda: 0.0)
    with pytest.raises(StopIteration):
        cache.get("key", partial(next, iter("")))
    assert cache.get("key", lambda: None) is None
    assert cache.get("key", lambda: "later") is None


def test_the_number_of_keys_is_limited():
    cache: TimedCache[int, int] = TimedCache(10, 5.0, lambda: 0.0)
    assert [cache.get(n, lambda: 0) for n in range(20)] == [0] * 20
    assert len(cache) == 10


def test_a_value_is_looked_up_in_one_step_as_another_thread_may_clear_the_cache_after_it():
    cache: TimedCache[str, str] = TimedCache(10, 5.0, lambda: 0.0)
    looked_up = 0

    class Key(str):
        __slots__ = ()

        def __hash__(self) -> int:
            nonlocal looked_up
            looked_up += 1
            if looked_up == 2:
                cache.clear()
            return super().__hash__()

    cache.get("key", lambda: "old")
    assert cache.get(Key("key"), lambda: "new") == "old"
