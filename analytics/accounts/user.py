"""A person who signs in to the reporting app, and what they may do. Pure.

An owner may do everything on all sites. Other users have a role for each site: an editor reads reports and changes
settings, a viewer reads reports.
"""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from uuid import UUID

LONGEST_EMAIL = 254  # characters, RFC 5321
LONGEST_PERSON_NAME = 100
_EMAIL = re.compile(r"[^@\s\x00-\x1f\x7f]{1,64}@[^@\s\x00-\x1f\x7f]+")


class Role(StrEnum):
    """What a user may do on one site. An owner is not listed for a site, because an owner has all sites."""

    OWNER = "owner"
    EDITOR = "editor"
    VIEWER = "viewer"


SITE_ROLES = (Role.VIEWER, Role.EDITOR)


@dataclass(frozen=True, slots=True)
class TwoStep:
    """Two-step sign-in of a user. `secret`: base32, shared with the user's app. `last_step`: the time step of the last
    code that was used. `recovery_digests`: the SHA-256 of each recovery code that was not used yet.
    """

    secret: str = field(repr=False)
    last_step: int
    recovery_digests: Sequence[str] = field(repr=False)


@dataclass(frozen=True, slots=True)
class User:
    """A user. `roles`: the role by site_id. `epoch` increases when all sessions of the user end: a session is valid
    only with the epoch in which it started. `two_step` is None if it is off. `created_at` is aware. `language` is the
    key of LANGUAGES that the user chose, "" for the language of the browser.
    """

    id: UUID
    email: str
    name: str
    password_hash: str = field(repr=False)
    created_at: datetime
    is_owner: bool = False
    roles: Mapping[str, Role] = field(default_factory=dict)
    epoch: int = 0
    two_step: TwoStep | None = None
    language: str = ""

    def may_read(self, site_id: str) -> bool:
        return self.is_owner or site_id in self.roles

    def may_edit(self, site_id: str) -> bool:
        return self.is_owner or self.roles.get(site_id) is Role.EDITOR


def plain_email(text: str) -> str:
    """Return the form in which an e-mail address is stored and compared: NFC, lower case, without surrounding spaces.
    Returns "" if the text is not an address.
    """
    plain = unicodedata.normalize("NFC", text).strip().lower()
    return plain if len(plain) <= LONGEST_EMAIL and _EMAIL.fullmatch(plain) else ""
