"""Texts of constants, which pages translate when they show them. Pure."""

from typing import cast

from babel.support import LazyProxy

from analytics.languages import gettext, spoken_language

_WITH_CAPITAL_NOUNS = ("de",)


def named(code: str) -> str:
    """What people call a code of the API, such as the role "viewer". The code itself if it has no name."""
    return str(_CODES.get(code, code))


def lazy(text: str, /, **values: object) -> str:
    """A text of a constant, which is translated each time that it is shown. `values`: those of gettext."""
    return cast(str, LazyProxy(gettext, text, enable_cache=False, **values))


def within_sentence(label: str) -> str:
    """The label in small letters, unless the spoken language writes nouns with a capital letter."""
    return str(label) if spoken_language() in _WITH_CAPITAL_NOUNS else label.lower()


# Roles, then kinds of rules, channels, periods, states, and outcomes of the ledger.
_CODES = {
    "owner": lazy("owner"),
    "editor": lazy("editor"),
    "viewer": lazy("viewer"),
    "spike": lazy("spike"),
    "drop": lazy("drop"),
    "silence": lazy("silence"),
    "goal": lazy("goal"),
    "dead_letters": lazy("dead letters"),
    "lag": lazy("lag"),
    "weekly": lazy("weekly"),
    "monthly": lazy("monthly"),
    "email": lazy("e-mail"),
    "webhook": lazy("webhook"),
    "slack": lazy("Slack"),
    "day": lazy("day"),
    "week": lazy("week"),
    "month": lazy("month"),
    "waiting": lazy("waiting"),
    "sending": lazy("sending"),
    "sent": lazy("sent"),
    "failed": lazy("failed"),
    "active": lazy("active"),
    "revoked": lazy("revoked"),
    "expired": lazy("expired"),
    "received": lazy("received"),
    "accepted": lazy("accepted"),
    "stored": lazy("stored"),
    "duplicate": lazy("duplicate"),
    "dead": lazy("dead"),
    "left out": lazy("left out"),
}
