"""Decides who a person is: by e-mail address and password, by a one-time code, or by the token of a session.

Callers must handle Unavailable. No password is checked if Redis is not reachable, because no session could start, and
attempts could not be counted.
"""

from collections.abc import Callable
from datetime import datetime

from analytics.accounts.one_time_codes import new_recovery_codes, recovery_digest, totp_step
from analytics.accounts.passwords import hash_password, is_password, needs_new_hash
from analytics.accounts.sessions import SessionStore
from analytics.accounts.store import AccountStore
from analytics.accounts.user import TwoStep, User, plain_email


class Authenticator:
    """`now` returns aware times."""

    def __init__(self, accounts: AccountStore, sessions: SessionStore, now: Callable[[], datetime]) -> None:
        self.accounts = accounts
        self.sessions = sessions
        self._now = now

    def user_with_password(self, email: str, password: str) -> User | None:
        """Return the user with this address and password. The answer takes the same time if there is no such user."""
        self.sessions.check()
        user = self.accounts.find(plain_email(email))
        return user if self._has_password(user, password) else None

    def is_own_password(self, user: User, password: str) -> bool:
        """Whether this is the user's password. Changes of an account ask for it again."""
        self.sessions.check()
        return self._has_password(user, password)

    def use_code(self, user: User, code: str) -> bool:
        """Use a code of the user's app, or a recovery code. Each is valid once."""
        if user.two_step is None:
            return False
        step = totp_step(user.two_step.secret, code, self._now())
        if step is not None:
            return self.accounts.use_step(user.id, user.two_step.secret, step)
        return self.accounts.use_recovery_code(user.id, recovery_digest(code))

    def start_two_step(self, user: User, secret: str, code: str) -> list[str] | None:
        """Turn two-step sign-in on, and return the recovery codes, which cannot be read again. Returns None if the code
        is not one of this secret.
        """
        step = totp_step(secret, code, self._now())
        if step is None:
            return None
        codes = new_recovery_codes()
        self.accounts.set_two_step(user.id, TwoStep(secret, step, [recovery_digest(each) for each in codes]))
        return codes

    def user_of(self, token: str) -> User | None:
        """Return the user of this session, if it has not ended."""
        found = self.sessions.find(token)
        user = self.accounts.get(found.user_id) if found else None
        return user if user and found and user.epoch == found.epoch else None

    def _has_password(self, user: User | None, password: str) -> bool:
        """Whether this is the user's password. If so, its hash is replaced if it has old parameters."""
        if not is_password(password, user.password_hash if user else None) or user is None:
            return False
        if needs_new_hash(user.password_hash):
            self.accounts.rehash(user, hash_password(password))
        return True
