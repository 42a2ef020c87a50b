"""For tests of pages: a clock, users, and a browser that fills in forms."""

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from html import unescape
from typing import Any
from urllib.parse import urlsplit

import pyotp
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from analytics.accounts.passwords import hash_password
from analytics.accounts.store import AccountStore
from analytics.accounts.user import Role, User

PASSWORD = "correct horse battery staple"
PASSWORD_HASH = hash_password(PASSWORD)


@dataclass
class Clock:
    """The real time, plus what tests add. MongoDB removes expired invitations by the real time."""

    ahead: timedelta = field(default_factory=timedelta)

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.ahead

    def forward(self, **length: float) -> None:
        self.ahead += timedelta(**length)


class Browser:
    """A test client that sends the CSRF token of the page, as a form does."""

    def __init__(self, app: Flask, **environment: str) -> None:
        self.client: FlaskClient = app.test_client()
        self.environment = environment

    def get(self, path: str, **how: Any) -> TestResponse:
        return self.client.get(path, environ_overrides=self.environment, **how)

    def post(self, path: str, page: str | None = None, **fields: str | list[str]) -> TestResponse:
        """Sends a form that `page`, or `path`, shows. A page without a form has no token."""
        token = token_in(self.get(page or path).text)
        return self.client.post(path, data={"csrf_token": token, **fields}, environ_overrides=self.environment)

    def sign_in(self, email: str, password: str = PASSWORD, to: str = "/login") -> TestResponse:
        return self.post(to, email=email, password=password)

    def is_signed_in(self) -> bool:
        return self.get("/account").status_code == 200


def token_in(page: str) -> str:
    found = re.search('name="csrf_token" value="([^"]*)"', page)
    return found[1] if found else ""


def secret_in(page: str) -> str:
    """The secret that the page of two-step sign-in shows."""
    return re.search("<code>([A-Z2-7]{32})</code>", page)[1]  # type: ignore[index]


def codes_in(page: str) -> list[str]:
    return re.findall("<code>((?:[a-z2-7]{4}-){3}[a-z2-7]{4})</code>", page)


def errors_in(page: str) -> list[str]:
    return [unescape(text) for text in re.findall('<p class="error"[^>]*>([^<]*)</p>', page)]


def code_now(secret: str, clock: Clock) -> str:
    return pyotp.TOTP(secret).at(clock())


def path_of(answer: TestResponse) -> str:
    """Where a redirect goes."""
    assert answer.status_code == 303, (answer.status_code, errors_in(answer.text))
    parts = urlsplit(answer.headers["Location"])
    return parts.path + (f"?{parts.query}" if parts.query else "")


def make_owner(accounts: AccountStore, email: str = "olga@example.org") -> User:
    return accounts.join(accounts.invite_owner(), email, "Olga", PASSWORD_HASH)


def make_member(accounts: AccountStore, email: str, site_id: str, role: Role) -> User:
    return accounts.join(accounts.invite(email, site_id, role), email, "Max", PASSWORD_HASH)
