"""The texts of errors say what the reader can do. Pure."""

import pytest

from analytics.segments.snapshot_reader import NotBuiltYet
from analytics.segments.store import LaterFormat
from analytics.unavailable import SEGMENTS_STORE, Unavailable
from web.errors import describe_unavailable


@pytest.mark.parametrize(
    ("store", "cause", "says"),
    [
        ("redis", OSError("refused"), "Redis is not reachable. Send the request again."),
        (
            SEGMENTS_STORE,
            NotBuiltYet("50,000 events"),
            "more than 50,000 events are in no segment. Send",
        ),
        (SEGMENTS_STORE, LaterFormat(9), "Start the later version of Footfall."),
    ],
)
def test_what_is_unavailable_is_named_with_what_to_do(store: str, cause: Exception, says: str):
    assert says in describe_unavailable(Unavailable(store, cause))
