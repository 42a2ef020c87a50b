"""A link that lets one person join, once. Pure.

The link contains 256 random bits. Only their SHA-256 is stored, as with API keys.
"""

import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta

from analytics.accounts.user import Role

INVITATION_LIFE = timedelta(days=7)
OWNER_INVITATION_LIFE = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Invitation:
    """An invitation to be an owner, or to have a role for a site. `digest` identifies it. `site_id` is None for an
    owner. `email` is the only address that may join; None means any. Times are aware.
    """

    digest: str
    role: Role
    site_id: str | None
    email: str | None
    expires_at: datetime

    def __post_init__(self) -> None:
        if (self.role is Role.OWNER) is not (self.site_id is None):
            raise ValueError("an owner has all sites, and other users have a role for one site")


def new_token() -> str:
    return secrets.token_urlsafe(32)


def join_url(server: str, token: str) -> str:
    """Return the link that a person opens. `server`: the URL of the reporting app."""
    return f"{server.rstrip('/')}/join/{token}"
