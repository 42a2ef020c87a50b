"""The text of notifications in the language of the installation. Pure."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from analytics.languages import speaking
from analytics.notifications.messages import message_of
from analytics.notifications.rule import Channel, Observation, Rule, RuleKind

SUMMARY = {
    "period": "week",
    "first_day": "2026-11-16",
    "last_day": "2026-11-22",
    "figures": {
        "visitors": {"value": 12345, "before": 10000},
        "views_per_visit": {"value": 2.54, "before": None},
        "bounce_rate": {"value": 41, "before": 82},
        "visit_duration": {"value": None, "before": 3},
    },
    "pages": [{"name": "/", "visitors": 1234}],
}


def message(kind: RuleKind, data: dict[str, Any]) -> tuple[str, str]:
    rule = Rule(
        UUID(int=7), "shop", kind, Channel.EMAIL, "a@example.com", 5, None, None, datetime(2026, 1, 1, tzinfo=UTC)
    )
    made = message_of(rule, Observation(True, data), "")
    return made.subject, made.text


def test_a_summary_in_german():
    with speaking("de"):
        subject, text = message(RuleKind.WEEKLY, SUMMARY)
    assert subject == "shop: 12.345 Besucher in der Woche ab 2026-11-16"
    assert text.replace("\xa0", " ").splitlines() == [
        "shop, 2026-11-16 bis 2026-11-22, verglichen mit der Woche davor",
        "",
        "Besucher:          12.345 (+23 %)",
        "Aufrufe je Besuch: 2,54",
        "Absprungrate:      41 % (-50 %)",
        "Besuchsdauer:      keine",
        "",
        "Seiten nach Besuchern",
        "    1.234  /",
    ]


@pytest.mark.parametrize(
    ("kind", "data", "subject"),
    [(RuleKind.SPIKE, {"events": 1, "usual": 10}, "shop: 1 Ereignis in der letzten Stunde, üblich sind höchstens 10"),
     (RuleKind.SILENCE, {"last_event_received": None, "minutes": 1}, "shop: kein Ereignis seit 1 Minute"),
     (RuleKind.LAG, {"seconds": 3600, "events_waiting": 2}, "shop: Ereignisse warten seit 60 Minuten")],
)  # fmt: skip
def test_an_alarm_in_german(kind: RuleKind, data: dict[str, Any], subject: str):
    with speaking("de"):
        assert message(kind, data)[0] == subject
    assert "shop: " in message(kind, data)[0]
    assert message(kind, data)[0] != subject
