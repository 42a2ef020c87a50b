"""Rules as JSON: what is accepted, what is refused, and that no secret is shown."""

import json

import pytest
from marshmallow import ValidationError

from analytics.notifications.rule import Channel, Rule, RuleKind
from analytics.notifications.rule_schema import dump_rule, load_rule
from tests.support.services import NOW

RULE = {"site_id": "shop", "kind": "silence", "channel": "webhook", "target": "https://example.com/hook?a=b"}
MAIL = {"channel": "email", "target": "ann@example.com"}


def load(**changes: object) -> Rule:
    return load_rule({name: value for name, value in (RULE | changes).items() if value is not None}, NOW)


def test_a_rule_is_read_and_shown_without_what_may_be_a_secret():
    rule = load(threshold=30)
    assert (rule.kind, rule.channel, rule.threshold) == (RuleKind.SILENCE, Channel.WEBHOOK, 30)
    assert rule.secret is not None
    assert rule.secret.startswith("whsec_")
    dumped = dump_rule(rule)
    assert dumped["target"] == "https://example.com/..."
    for text in (json.dumps(dumped), repr(rule)):
        assert "hook?" not in text
        assert rule.secret not in text


def test_each_rule_has_a_secret_of_its_own_and_only_webhooks_have_one():
    assert load().secret != load().secret
    assert load(channel="slack").secret is None
    assert load(**MAIL).secret is None
    assert load(**MAIL).shown_target == "ann@example.com"


@pytest.mark.parametrize(
    ("kind", "threshold"), [("spike", 100), ("drop", 50), ("silence", 60), ("dead_letters", 1), ("lag", 5)]
)
def test_a_threshold_has_a_default(kind: str, threshold: int):
    assert load(kind=kind).threshold == threshold


def test_summaries_and_goals():
    assert load(kind="weekly").threshold is None
    goal = load(kind="goal", goal="Signed up", threshold=100)
    assert (goal.goal, goal.threshold, goal.period, goal.grain) == ("Signed up", 100, "day", "day")
    assert load(kind="goal", goal="Signed up", threshold=1, period="month").grain == "month"


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"site_id": None}, "site_id"),
        ({"site_id": "x" * 129}, "site_id"),
        ({"kind": "noise"}, "kind"),
        ({"channel": "fax"}, "channel"),
        ({"treshold": 1}, "treshold"),
        *[({"threshold": bad}, "threshold") for bad in (0, -1, 4, 1441, 1.5, "60", True)],
        ({"kind": "drop", "threshold": 101}, "threshold"),
        ({"kind": "weekly", "threshold": 1}, "threshold"),
        ({"kind": "goal", "goal": "a"}, "threshold"),
        ({"kind": "goal", "threshold": 1}, "goal"),
        ({"goal": "a"}, "goal"),
        ({"period": "day"}, "period"),
        ({"kind": "goal", "goal": "a", "threshold": 1, "period": "year"}, "period"),
        *[
            ({"target": bad}, "target")
            for bad in (
                None,
                "",
                "example.com",
                "ftp://example.com",
                "file:///etc/passwd",
                "https://",
                "https:///a",
                "https://user:password@example.com",
                "https://example.com:x",
                "https://example.com:99999",
                "https://example.com:0/",
                "https://example.com/a b",
                "https://example.com/\r\nHost: other",
                "https://exämple.com/",
                "https://[::1",
                "https://e/" + "x" * 2000,
            )
        ],
        *[
            (MAIL | {"target": bad}, "target")
            for bad in ("ann", "ann@", "a@b\r\nBcc: c@d", "ann@exämple.com", "x" * 300 + "@example.com")
        ],
    ],
)
def test_an_invalid_rule_is_refused_and_the_field_is_named(changes: dict[str, object], field: str):
    with pytest.raises(ValidationError) as caught:
        load(**changes)
    assert field in caught.value.messages_dict


@pytest.mark.parametrize("body", [None, [], "text", 3])
def test_a_rule_must_be_an_object(body: object):
    with pytest.raises(ValidationError):
        load_rule(body, NOW)
