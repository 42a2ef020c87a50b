"""The page of queues and workers. With workers: tests/system/test_console_in_browser.py."""

from tests.support.accounts import Browser


def test_queues_are_counted_and_a_missing_worker_is_said(owner: Browser, redis):
    redis.lpush("segments", "x", "y")
    page = owner.get("/ops/workers").text
    assert '<th scope="row">segments</th><td class="n">2</td>' in page
    assert 'href="http://localhost:5555"' in page
    part = owner.get("/parts/ops/workers")
    assert part.status_code == 200
    assert "No worker answers." in part.text
