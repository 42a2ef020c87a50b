"""One visitor of one site, as an operator names them to see or erase their data. Pure."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from analytics.events.schema import readable


@dataclass(frozen=True, slots=True)
class Visitor:
    """A visitor, named by `user_id` or, for one day, by `visitor_id`. The repr shows neither."""

    site_id: str
    user_id: str | None = field(default=None, repr=False)
    visitor_id: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if not self.site_id or bool(self.user_id) == bool(self.visitor_id):
            raise ValueError("a visitor has a site, and either a user_id or a visitor_id")

    @property
    def id(self) -> str:
        return self.user_id or self.visitor_id or ""

    @property
    def name(self) -> str:
        """Which of the two ids it is."""
        return "user_id" if self.user_id else "visitor_id"

    def is_in(self, raw: bytes, site_id: str) -> bool:
        """Whether this payload, which may not be an event, belongs to the visitor. `site_id` is where it was counted,
        "" if this is unknown. If the payload is not one JSON object, it belongs to the visitor if it contains the
        quoted id.
        """
        body = _object_in(raw)
        if body is None:
            return site_id in ("", self.site_id) and any(text in raw for text in self._quoted())
        return self in _visitors_of(body, site_id) or self in _visitors_of(body | {"site_id": None}, site_id)

    def _quoted(self) -> Iterator[bytes]:
        for to_ascii in (True, False):
            yield json.dumps(self.id, ensure_ascii=to_ascii).encode(errors="replace")


def visitors_in(raw: bytes, site_id: str) -> list[Visitor]:
    """Return the visitors to whom this payload belongs: none, one, or two names of one."""
    body = _object_in(raw)
    return [] if body is None else _visitors_of(body, site_id)


def visitors_named(site_id: str, user_id: str | None, visitor_id: str | None) -> list[Visitor]:
    found = [Visitor(site_id, user_id=user_id)] if user_id else []
    return [*found, Visitor(site_id, visitor_id=visitor_id)] if visitor_id else found


def _visitors_of(body: dict[str, Any], site_id: str) -> list[Visitor]:
    site = body.get("site_id")
    whose = site if isinstance(site, str) and site else site_id
    return visitors_named(whose, _said(body.get("user_id")), _said(body.get("visitor_id"))) if whose else []


def _said(value: object) -> str | None:
    """A number counts as it is written, because an event with a numeric user_id became a dead letter."""
    if isinstance(value, str):
        return value or None
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _object_in(raw: bytes) -> dict[str, Any] | None:
    try:
        body = json.loads(readable(raw))
    except (ValueError, RecursionError):
        return None
    return body if isinstance(body, dict) else None
