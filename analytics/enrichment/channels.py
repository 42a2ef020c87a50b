"""Channels: GA4's default channel groups, by its rules and in its order, plus AI assistants. Pure.

The channel follows from the source, the kind of source, and the medium and campaign of the link.
"""

import re
from collections.abc import Callable
from functools import lru_cache

from msgspec import Struct

from analytics.enrichment.sources import CLICK_IDS, Kind


class TrafficOrigin(Struct, frozen=True):
    """Where a visitor came from. Texts are in lower case, "" if unknown. Without a source and a medium, the visit is
    direct.
    """

    source: str = ""
    kind: Kind = "other"
    medium: str = ""
    campaign: str = ""


# A click id alone also counts as a medium, such as "(gclid)" (analytics/enrichment/steps.py).
CLICKED = "|".join(re.escape(f"({name})") for name, (_, is_paid) in CLICK_IDS.items() if is_paid and name != "dclid")
PAID = re.compile(rf".*cp.*|ppc|retargeting|paid.*|{CLICKED}")
SHOP = re.compile(r".*(([^a-df-z]|^)shop|shopping).*")
VIDEO = re.compile(r".*video.*")
DISPLAYS = ("display", "banner", "expandable", "interstitial", "cpm", "(dclid)")
SOCIALS = ("social", "social-network", "social-media", "sm", "social network", "social media")
REFERRALS = ("referral", "app", "link")
_EMAILS = ("email", "e-mail", "e_mail", "e mail", "newsletter")
AFFILIATES = ("affiliate", "affiliates")


def _is_paid(origin: TrafficOrigin) -> bool:
    return PAID.fullmatch(origin.medium) is not None


def _is_shopping(origin: TrafficOrigin) -> bool:
    return origin.kind == "shopping" or SHOP.fullmatch(origin.campaign) is not None


def _is_push(origin: TrafficOrigin) -> bool:
    medium = origin.medium
    return medium.endswith("push") or "mobile" in medium or "notification" in medium or origin.source == "firebase"


# The first matching rule applies.
CHANNEL_RULES: tuple[tuple[str, Callable[[TrafficOrigin], bool]], ...] = (
    ("Cross-network", lambda o: "cross-network" in o.campaign),
    ("Direct", lambda o: o.source in ("", "(direct)") and o.medium in ("", "(none)", "(not set)") and not o.campaign),
    ("Paid Shopping", lambda o: _is_shopping(o) and _is_paid(o)),
    ("Paid Search", lambda o: o.kind == "search" and _is_paid(o)),
    ("Paid Social", lambda o: o.kind == "social" and _is_paid(o)),
    ("Paid Video", lambda o: o.kind == "video" and _is_paid(o)),
    ("Display", lambda o: o.medium in DISPLAYS or (o.kind == "display" and not o.medium)),
    ("Paid Other", _is_paid),
    ("AI Assistants", lambda o: o.kind == "ai"),
    ("Organic Shopping", _is_shopping),
    ("Organic Social", lambda o: o.kind == "social" or o.medium in SOCIALS),
    ("Organic Video", lambda o: o.kind == "video" or VIDEO.fullmatch(o.medium) is not None),
    ("Organic Search", lambda o: o.kind == "search" or o.medium == "organic"),
    ("Email", lambda o: o.kind == "email" or o.source in _EMAILS or o.medium in _EMAILS),
    ("Affiliates", lambda o: o.medium in AFFILIATES),
    ("Audio", lambda o: o.kind == "audio" or o.medium == "audio"),
    ("SMS", lambda o: o.kind == "sms" or o.source == "sms" or o.medium == "sms"),
    ("Mobile Push Notifications", _is_push),
    ("Referral", lambda o: o.medium in REFERRALS or (bool(o.source) and not o.medium)),
)
UNASSIGNED = "Unassigned"


@lru_cache(maxsize=10_000)
def channel_of(origin: TrafficOrigin) -> str:
    return next((channel for channel, fits in CHANNEL_RULES if fits(origin)), UNASSIGNED)
