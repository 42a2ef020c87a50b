"""API keys as JSON, in both directions, and durations as text.

Callers must handle ValidationError, which says what is wrong by field.
"""

import re
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal, TypedDict

from marshmallow import ValidationError, fields, validates_schema
from marshmallow.validate import Length, OneOf

from analytics.access.api_key import ADMIN_SCOPE, SCOPES, ApiKey
from analytics.interval import moment_text
from analytics.json_schema import IdText, Json, Keywords, MomentText, text, up_to
from analytics.languages import translatable
from analytics.schema_fields import OPTIONAL, Moment, StrictSchema, Text

_MOST_SITES = 100
LONGEST_LIFE = timedelta(days=36_500)
LONGEST_GRACE = timedelta(days=30)
REVOKE_GRACE = timedelta(days=1)
_UNITS = {"m": "minutes", "h": "hours", "d": "days"}


class Lasting(fields.Field[timedelta]):
    """A duration: `90d`, `24h` or `30m`. `may_be_zero` only describes the field: `ends_at` rejects such an end."""

    default_error_messages = {"invalid": translatable("Not a duration such as 90d, 24h or 30m.")}

    def __init__(self, longest: timedelta, *, may_be_zero: bool = True, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.longest = longest
        self._may_be_zero = may_be_zero

    @property
    def json_schema(self) -> Json:
        """The pattern of the usual durations. The field also accepts larger numbers of hours and minutes."""
        zero = "0[mhd]|" if self._may_be_zero else ""
        pattern = f"^({zero}[1-9][0-9]{{0,3}}m|[1-9][0-9]?h|({up_to(self.longest.days)})d)$"
        return text(pattern=pattern, examples=["24h", "30m", "7d"])

    def _serialize(self, value: timedelta | None, attr: str | None, obj: Any, **kwargs: Any) -> str | None:
        return None if value is None else f"{value // timedelta(minutes=1)}m"

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> timedelta:
        found = re.fullmatch(r"([0-9]{1,9})([mhd])", value) if isinstance(value, str) else None
        if not found:
            raise self.make_error("invalid")
        length = timedelta(**{_UNITS[found[2]]: int(found[1])})
        if length > self.longest:
            raise ValidationError(translatable("Longer than %(days)s days.", days=self.longest.days))
        return length


class NewKey(StrictSchema):
    """A new API key. An unknown field is an error, so that a misspelled limit is not lost."""

    name = Text(required=True, shortest=1, longest=128)
    scopes = fields.List(fields.String(validate=OneOf(list(SCOPES))), required=True, validate=Length(1))
    sites = fields.List(Text(shortest=1, longest=128), validate=Length(1, _MOST_SITES), **OPTIONAL)
    expires_at = Moment(**OPTIONAL)
    expires_in = Lasting(LONGEST_LIFE, may_be_zero=False, **OPTIONAL)

    @validates_schema
    def fits(self, key: dict[str, Any], **_: Any) -> None:
        if ADMIN_SCOPE in key["scopes"] and key.get("sites"):
            raise ValidationError(
                translatable("A key with the scope admin is for all sites. Leave sites out."), "sites"
            )
        if None not in (key.get("expires_at"), key.get("expires_in")):
            raise ValidationError(translatable("Send either expires_at or expires_in, not both."), "expires_in")


class Rotation(StrictSchema):
    """A rotation of a key's secret. `grace` is how long the old secret stays valid."""

    grace = Lasting(LONGEST_GRACE, load_default=REVOKE_GRACE)


def ends_at(key: dict[str, Any], now: datetime) -> datetime | None:
    """Return when a new key expires, or None if it never does. Raises ValidationError."""
    length: timedelta | None = key.get("expires_in")
    end: datetime | None = key.get("expires_at") if length is None else now + length
    if end is not None and end <= now:
        raise ValidationError({"expires_at": [translatable("Not in the future.")]})
    return end


class KeyJson(TypedDict):
    id: IdText
    name: str
    scopes: list[Annotated[str, Keywords(enum=list(SCOPES))]]
    sites: Annotated[list[str] | None, "null means all sites."]
    state: Literal["active", "expired", "revoked"]
    created_at: MomentText
    expires_at: MomentText | None
    revoked_at: MomentText | None
    last_used_at: MomentText | None


def dump_key(key: ApiKey, now: datetime) -> KeyJson:
    return {
        "id": str(key.id),
        "name": key.name,
        "scopes": sorted(key.scopes),
        "sites": None if key.sites is None else sorted(key.sites),
        "state": key.state(now),
        "created_at": key.created_at.isoformat(),
        "expires_at": moment_text(key.expires_at),
        "revoked_at": moment_text(key.revoked_at),
        "last_used_at": moment_text(key.last_used_at),
    }
