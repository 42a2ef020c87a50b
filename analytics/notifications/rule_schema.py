"""Rules as JSON, in both directions. Only this module knows the JSON names of rules. Pure.

Callers must handle ValidationError, which says what is wrong by field.
"""

import re
import secrets
from base64 import b64encode
from dataclasses import replace
from datetime import datetime
from typing import Any, Literal, TypedDict, get_args
from urllib.parse import urlsplit
from uuid import uuid4

from marshmallow import ValidationError, fields, validates_schema
from marshmallow.validate import OneOf, Range

from analytics.accounts.user import plain_email
from analytics.interval import whole_milliseconds
from analytics.json_schema import IdText, MomentText
from analytics.languages import LANGUAGES, translatable
from analytics.notifications.rule import (
    THRESHOLDS,
    Channel,
    ChannelText,
    KindText,
    LanguageOrNone,
    Rule,
    RuleKind,
    RulePeriod,
)
from analytics.schema_fields import OPTIONAL, StrictSchema, Text, Whole

_LONGEST_TARGET = 2_000
# Printable ASCII without spaces: HTTP sends it unchanged, and no header can be injected.
_URL = re.compile(r"https?://[!-~]+")
_NOT_A_URL = translatable("Not a URL such as https://example.com/hook, without user and password, in ASCII.")


class RuleChanges(StrictSchema):
    """What may be changed in a rule. An unknown field is an error, so that a misspelled threshold is not lost."""

    target = Text(shortest=1, longest=_LONGEST_TARGET)
    threshold = Whole(validate=Range(1, 1_000_000_000), **OPTIONAL)
    goal = Text(shortest=1, longest=3_000, **OPTIONAL)
    period = fields.String(validate=OneOf(get_args(RulePeriod)), **OPTIONAL)
    language = fields.String(validate=OneOf(list(LANGUAGES)), **OPTIONAL)


CHANGEABLE = tuple(RuleChanges().fields)


class RuleSchema(RuleChanges):
    """A new rule."""

    site_id = Text(required=True, shortest=1, longest=128)
    kind = fields.String(required=True, validate=OneOf([kind.value for kind in RuleKind]))
    channel = fields.String(required=True, validate=OneOf([channel.value for channel in Channel]))
    target = Text(required=True, shortest=1, longest=_LONGEST_TARGET)

    @validates_schema
    def fits(self, rule: dict[str, Any], **_: Any) -> None:
        wrong = {
            "target": _target_fault(rule["channel"], rule["target"]),
            "threshold": _threshold_fault(RuleKind(rule["kind"]), rule.get("threshold")),
        }
        for name in ("goal", "period"):
            if rule.get(name) and rule["kind"] != RuleKind.GOAL:
                wrong[name] = translatable("Only a rule of the kind goal has this field.")
        if rule["kind"] == RuleKind.GOAL and not rule.get("goal"):
            wrong["goal"] = translatable("A rule of the kind goal needs the name of a goal of the site.")
        if found := {name: [said] for name, said in wrong.items() if said}:
            raise ValidationError(found)


def _target_fault(channel: str, target: str) -> str:
    if channel == Channel.EMAIL:
        is_address = target.isascii() and plain_email(target)
        return "" if is_address else translatable("Not an e-mail address such as ann@example.com, in ASCII.")
    try:
        parts = urlsplit(target)
        is_url = _URL.fullmatch(target) and parts.hostname and "@" not in parts.netloc and parts.port != 0
    except ValueError:  # the port is no number, or a bracket is missing
        is_url = False
    return "" if is_url else _NOT_A_URL


def _threshold_fault(kind: RuleKind, threshold: int | None) -> str:
    rule = THRESHOLDS.get(kind)
    if rule is None:
        return "" if threshold is None else translatable("A summary has no threshold.")
    if threshold is None:
        return "" if rule.default is not None else translatable("A rule of this kind needs a threshold.")
    return (
        ""
        if rule.least <= threshold <= rule.most
        else translatable("Not from %(least)s to %(most)s.", least=rule.least, most=rule.most)
    )


def load_rule(body: Any, now: datetime) -> Rule:
    """Return a new rule, with an id and, for a webhook, a secret. Raises ValidationError."""
    given: dict[str, Any] = RuleSchema().load(body)
    kind, channel = RuleKind(given["kind"]), Channel(given["channel"])
    limits, threshold = THRESHOLDS.get(kind), given.get("threshold")
    return Rule(
        id=uuid4(),
        site_id=given["site_id"],
        kind=kind,
        channel=channel,
        target=given["target"].strip(),
        threshold=limits.default if limits and threshold is None else threshold,
        goal=given.get("goal"),
        period=given.get("period") or ("day" if kind is RuleKind.GOAL else None),
        created_at=whole_milliseconds(now),
        secret=new_webhook_secret() if channel is Channel.WEBHOOK else None,
        language=given.get("language"),
    )


def changed_rule(rule: Rule, changes: Any) -> Rule:
    """Return the rule with the changes, which are JSON as RuleChanges describes it. Raises ValidationError."""
    given: dict[str, Any] = RuleChanges().load(changes)
    new = load_rule({name: getattr(rule, name) for name in RuleSchema().fields} | given, rule.created_at)
    return replace(rule, **{name: getattr(new, name) for name in CHANGEABLE})


def new_webhook_secret() -> str:
    """Return a secret in the form of the Standard Webhooks specification."""
    return "whsec_" + b64encode(secrets.token_bytes(32)).decode()


class RuleJson(TypedDict):
    """The target is without the path of a URL, which may be a secret."""

    id: IdText
    site_id: str
    kind: KindText
    channel: ChannelText
    target: str
    threshold: int | None
    goal: str | None
    period: Literal["day", "week", "month", None]
    created_at: MomentText
    occasion: str | None
    language: LanguageOrNone


def dump_rule(rule: Rule) -> RuleJson:
    return {
        "id": str(rule.id),
        "site_id": rule.site_id,
        "kind": rule.kind,
        "channel": rule.channel,
        "target": rule.shown_target,
        "threshold": rule.threshold,
        "goal": rule.goal,
        "period": rule.period,
        "created_at": rule.created_at.isoformat(),
        "occasion": rule.occasion,
        "language": rule.language,
    }
