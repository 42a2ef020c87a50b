"""A rule: of what Footfall notifies whom. Pure: rule_schema.py reads it from JSON, and store.py stores it.

docs/notifications.md explains each kind of rule for users.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit
from uuid import UUID

from analytics.json_schema import Keywords
from analytics.languages import LANGUAGES

RulePeriod = Literal["day", "week", "month"]


class RuleKind(StrEnum):
    """What a rule is about."""

    SPIKE = "spike"
    DROP = "drop"
    SILENCE = "silence"
    GOAL = "goal"
    DEAD_LETTERS = "dead_letters"
    LAG = "lag"
    WEEKLY = "weekly"
    MONTHLY = "monthly"


class Channel(StrEnum):
    """How a notification is sent."""

    EMAIL = "email"
    WEBHOOK = "webhook"
    SLACK = "slack"


KindText = Annotated[str, Keywords(enum=[kind.value for kind in RuleKind])]
ChannelText = Annotated[str, Keywords(enum=[channel.value for channel in Channel])]
LanguageOrNone = Annotated[str | None, Keywords(enum=[*LANGUAGES, None])]

# Kinds that count events at each check. The cost grows with the site, so they are checked less often.
COUNTING_KINDS = (RuleKind.SPIKE, RuleKind.DROP, RuleKind.GOAL)
CHEAP_KINDS = tuple(kind for kind in RuleKind if kind not in COUNTING_KINDS)
# A rule of these kinds notifies once in each period. The other rules notify once in each episode.
RULE_PERIODS: Mapping[RuleKind, RulePeriod] = {
    RuleKind.DEAD_LETTERS: "day",
    RuleKind.WEEKLY: "week",
    RuleKind.MONTHLY: "month",
}


@dataclass(frozen=True, slots=True)
class Threshold:
    """The threshold of a kind of rule: its default, and its smallest and largest value."""

    default: int | None
    least: int
    most: int


THRESHOLDS: Mapping[RuleKind, Threshold] = {
    RuleKind.SPIKE: Threshold(100, 10, 10_000),  # percent more than usual
    RuleKind.DROP: Threshold(50, 10, 100),  # percent less than usual
    RuleKind.SILENCE: Threshold(60, 5, 1_440),  # minutes
    RuleKind.GOAL: Threshold(None, 1, 1_000_000_000),  # conversions
    RuleKind.DEAD_LETTERS: Threshold(1, 1, 1_000_000),  # of a UTC day
    RuleKind.LAG: Threshold(5, 1, 1_440),  # minutes
}


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule. `target`: the e-mail address or the URL. `threshold`: see THRESHOLDS; None for a summary. `goal` and
    `period` are set for a goal only. `language` is the key of LANGUAGES in which it notifies: message_writer.py says of
    whom, and what None means. `secret` signs the requests to a webhook, and is None for other channels.

    `occasion` is what the rule has notified of: the start of the episode that goes on, or the last period.
    """

    id: UUID
    site_id: str
    kind: RuleKind
    channel: Channel
    target: str = field(repr=False)
    threshold: int | None
    goal: str | None
    period: RulePeriod | None
    created_at: datetime
    secret: str | None = field(default=None, repr=False)
    occasion: str | None = None
    language: str | None = None

    @property
    def grain(self) -> RulePeriod | None:
        """The period in which the rule notifies once. None if it notifies once in each episode."""
        return self.period or RULE_PERIODS.get(self.kind)

    @property
    def shown_target(self) -> str:
        """The target without what may be a secret: the path of a Slack URL is one."""
        if self.channel is Channel.EMAIL:
            return self.target
        parts = urlsplit(self.target)
        return f"{parts.scheme}://{parts.netloc}/..."


@dataclass(frozen=True, slots=True)
class Observation:
    """The result of a check. `holds`: None means that an episode neither begins nor ends. `occasion` is the period if
    the rule notifies once in each period. `data` is what the notification tells.
    """

    holds: bool | None
    data: Mapping[str, Any] = field(default_factory=dict)
    occasion: str | None = None


UNCHANGED = Observation(None)
