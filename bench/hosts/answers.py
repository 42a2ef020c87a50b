"""Compares what the hosts that report answer with what was acknowledged, and with the oracle of the tests."""

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx

from analytics.queries.query_schema import load_query
from analytics.sites.site import Site
from bench.chaos import Tally
from bench.hosts.deployment import KEY, REPORTS, Deployment
from tests.support import oracle
from tests.support.running_system import wait_for

METRICS = ["visitors", "visits", "pageviews", "events"]
QUESTIONS: list[dict[str, Any]] = [
    {"metrics": METRICS},
    {"metrics": METRICS, "dimensions": ["event:page"], "pagination": {"limit": 1000}},
    {"metrics": METRICS, "dimensions": ["time:hour"]},
]
COMPLETE_LIMIT = 180  # seconds until segments of the events are built, so that a report includes all of them


def wrong_answers(deployment: Deployment, tally: Tally) -> list[str]:
    """Where a host that reports says other than the oracle, which counts the stored events in the plainest way.

    The oracle must count at least the acknowledged events. Each of them has a visitor of its own.
    """
    with deployment.database() as database:
        documents = list(database["events"].find({"site_id": tally.site}))
    now, found = datetime.now(UTC), []
    days = [f"{now + timedelta(days=n):%Y-%m-%d}" for n in (-1, 1)]
    for question in QUESTIONS:
        body = {"site_id": tally.site, "date_range": days} | question
        expected = oracle.answer(documents, load_query(body, Site(tally.site), now, lambda: None))
        rows = [{"metrics": [*row.metrics], "dimensions": [*row.dimensions]} for row in expected.rows]
        if question is QUESTIONS[0] and rows[0]["metrics"][-1] < len(tally.acknowledged):
            found.append(f"the oracle counts {rows[0]['metrics']}, and {len(tally.acknowledged)} were acknowledged")
        for name in REPORTS:
            answer = wait_for(lambda name=name, body=body: _complete(deployment, name, body), name, COMPLETE_LIMIT)
            if answer["results"] != rows:
                found.append(f"{name}: {str(answer)[:300]} to {question}, and the oracle says {str(rows)[:300]}")
    return found


def _complete(deployment: Deployment, name: str, body: dict[str, Any]) -> dict[str, Any] | None:
    """The answer of a host. None if it does not include all events yet."""
    url, headers = f"{deployment.apps[name].report}/api/v2/query", {"Authorization": f"Bearer {KEY}"}
    answer = httpx.post(url, json=body, headers=headers, timeout=30)
    assert answer.status_code == 200, f"{name}: {answer.status_code} {answer.text}"
    found: dict[str, Any] = answer.json()
    return None if "as_of" in found["meta"] else found
