"""The start page: each part has the numbers of its store."""

import re

from analytics.events.schema import load_event
from analytics.journal.journal import Line
from config.services import Services
from report_app.pages.words import NOTHING
from tests.report_app.console.conftest import Tell
from tests.support.accounts import Browser, Clock


def facts(page: str) -> dict[str, str]:
    return dict(re.findall("<dt>([^<]*)</dt><dd>([^<]*)</dd>", page))


def test_the_parts_have_the_numbers_of_their_stores(owner: Browser, real: Services, tell: Tell, clock: Clock):
    tell({"event_id": "1"}, {"event_id": "1"}, {"site_id": "other"}, "not json")
    waiting = load_event({"site_id": "shop", "event_type": "pageview", "path": "/"}, real.now())
    real.journal.append([Line.of(waiting)])
    clock.forward(seconds=90)
    page = owner.get("/ops").text
    assert facts(page) == {
        "Waiting events": "1",
        "Oldest waits for": "90 s",
        "Accepted": "5",
        "Stored": "2",
        "Duplicates": "1",
        "Left out": "0",
        "Dead": "1",
        "Dirty hours": "2",
        "To be built now": "0",
        "Oldest is late by": NOTHING,
    }
    for name in ("journal", "today", "segments"):
        part = owner.get(f"/parts/ops/{name}")
        assert part.status_code == 200
        assert facts(part.text).items() <= facts(page).items()


def test_the_findings_are_those_of_the_doctor(owner: Browser):
    part = owner.get("/parts/ops/findings")
    assert part.status_code == 200
    assert "No worker answers within 2 s." in part.text
    assert "Warning: flower." in part.text
    assert "Needs Flower." in part.text
