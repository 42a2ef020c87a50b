"""Texts of constants and of schemas, which pages translate when they show them. Pure."""

import re
from typing import cast

from babel.support import LazyProxy

from analytics.languages import gettext, spoken_language, translatable

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


def fault(text: str) -> str:
    """What is wrong with a field that a schema refused, in the spoken language."""
    found = next(((format_, match) for format_, form in _FORMATS.items() if (match := form.fullmatch(text))), None)
    return gettext(found[0], **found[1].groupdict()) if found else gettext(text)


def _form_of(format_: str) -> re.Pattern[str]:
    """What a format makes of any values."""
    return re.compile(re.sub(r"%\\\((\w+)\\\)s", r"(?P<\1>.+)", re.escape(format_)), re.DOTALL)


# Faults that marshmallow formats, so that they do not remember their values.
_FORMATS = {
    format_: _form_of(format_)
    for format_ in (
        translatable("Must be greater than or equal to %(min)s and less than or equal to %(max)s."),
        translatable("Must be greater than or equal to %(min)s."),
        translatable("Must be less than or equal to %(max)s."),
        translatable("Length must be between %(min)s and %(max)s."),
        translatable("Longer than maximum length %(max)s."),
        translatable("Shorter than minimum length %(min)s."),
        translatable("Must be one of: %(choices)s."),
        translatable("Not a code such as %(example)s."),
    )
}
# Faults in marshmallow's own words.
FAULTS = (
    translatable("Missing data for required field."),
    translatable("Field may not be null."),
    translatable("Unknown field."),
    translatable("Invalid input type."),
    translatable("Not a valid boolean."),
    translatable("Not a valid integer."),
    translatable("Not a valid list."),
    translatable("Not a valid string."),
)

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
    "replayed": lazy("replayed"),
    "imported": lazy("imported"),
    "accepted": lazy("accepted"),
    "stored": lazy("stored"),
    "duplicate": lazy("duplicate"),
    "dead": lazy("dead"),
    "left out": lazy("left out"),
}
