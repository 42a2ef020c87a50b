"""What pages say about errors."""

import pytest
from werkzeug.exceptions import TooManyRequests

from report_app.trouble import trouble_of


@pytest.mark.parametrize(
    ("seconds", "said"), [(1, "in 1 minute."), (60, "in 1 minute."), (61, "in 2 minutes."), (900, "in 15 minutes.")]
)
def test_too_many_attempts_end_within_the_minutes_that_the_page_says(seconds: int, said: str):
    trouble = trouble_of(TooManyRequests(retry_after=seconds))
    assert trouble.text.endswith(said)
    assert trouble.retry_after == seconds
