"""Limits attempts to sign in: by account and by address.

Their names in Redis are made with the salt of the day, so no address is stored. Callers must handle TooManyRequests,
and Unavailable if Redis is not reachable: attempts that cannot be counted are refused.
"""

from collections.abc import Callable
from datetime import datetime
from hmac import digest
from typing import TypeVar

from flask import request

from analytics.accounts.user import plain_email
from analytics.addresses import subscriber_network
from analytics.visitors.salts import SALT_ZONE, Salts
from web.rate_limits import SIGN_IN_ACCOUNT, SIGN_IN_ADDRESS, RateLimits

# A guess of a one-time code counts too: 10 guesses of 3 codes out of 1,000,000 in 15 minutes, after a correct password.
SIGN_IN_RATES = {SIGN_IN_ACCOUNT: "10/15minute", SIGN_IN_ADDRESS: "100/15minute"}

T = TypeVar("T")


class Attempts:
    """`limits` holds SIGN_IN_RATES. `now` returns aware times."""

    def __init__(self, limits: RateLimits, salts: Salts, now: Callable[[], datetime]) -> None:
        self._limits = limits
        self._salts = salts
        self._now = now

    def run(self, account: str, check: Callable[[], T]) -> T:
        """Count this request as an attempt, and return what `check` returns. An attempt that succeeds does not count.
        `account`: an e-mail address, or the id of a shared link.
        """
        address = subscriber_network(request.remote_addr or "")
        names = {
            SIGN_IN_ADDRESS: self._name(f"sign-in address {address}"),
            SIGN_IN_ACCOUNT: self._name(f"sign-in account {plain_email(account) or account}"),
        }
        for limit, name in names.items():
            self._limits.spend(limit, name)
        if result := check():
            for limit, name in names.items():
                self._limits.give_back(limit, name, 1)
        return result

    def _name(self, what: str) -> str:
        salt = self._salts.of(SALT_ZONE, self._now().date())
        return digest(salt, what.encode(errors="surrogatepass"), "sha256")[:16].hex()
