from contextlib import suppress

import pytest

from analytics.unavailable import Breaker, Unavailable


def fail(breaker: Breaker, error: OSError) -> None:
    with breaker.closed():
        raise error


def fail_together(breaker: Breaker, first: OSError, second: OSError) -> None:
    with breaker.closed():
        with suppress(Unavailable):
            fail(breaker, first)
        raise second


def test_a_breaker_reports_the_first_failure_of_a_pause_and_refuses_every_call_until_the_pause_ends():
    now, reported = [100.0], []
    breaker = Breaker("redis", OSError, 0.5, reported.append, lambda: now[0])
    first, second, third = OSError("first"), OSError("second"), OSError("third")

    with pytest.raises(Unavailable, match="second"):
        fail_together(breaker, first, second)
    assert reported == [first]
    with pytest.raises(Unavailable, match="no answer a moment ago"):
        fail(breaker, third)
    assert reported == [first]

    now[0] += 0.5
    breaker.check()
    with pytest.raises(Unavailable, match="third"):
        fail(breaker, third)
    assert reported == [first, third]
