"""Who may open the console: owners.

Sessions are in Redis and users in MongoDB. If one of them is down, an owner needs the console most. A browser
that this process recognised within the last minutes may then still read pages. It may not change anything.
"""

import time
from threading import Lock
from typing import cast

from cachetools import TTLCache
from flask import abort, g, request
from werkzeug.exceptions import HTTPException

from analytics.accounts.user import User
from analytics.unavailable import Unavailable
from report_app.page_access import required_user, session_digest

CONSOLE_FOR_OWNERS = "Only an owner may open the console."
RECOGNISED_FOR = 600.0  # seconds
_MOST = 100
_OWNER = "footfall_owner"  # in g


class Owners:
    def __init__(self) -> None:
        self._recognised: TTLCache[str, User] = TTLCache(_MOST, RECOGNISED_FOR, time.monotonic)
        self._lock = Lock()

    def check(self) -> None:
        """End the request unless an owner sent it. Raises Unavailable."""
        setattr(g, _OWNER, self._find())

    def _find(self) -> User:
        try:
            user = required_user()
        except Unavailable:
            known = self._recognised_user()
            if known is None or request.method != "GET":
                raise
            return known
        except HTTPException:  # the session has ended
            self._note(None)
            raise
        self._note(user if user.is_owner else None)
        return user if user.is_owner else abort(403, CONSOLE_FOR_OWNERS)

    def _recognised_user(self) -> User | None:
        with self._lock:
            return self._recognised.get(session_digest())

    def _note(self, user: User | None) -> None:
        with self._lock:
            if user:
                self._recognised[session_digest()] = user
            else:
                self._recognised.pop(session_digest(), None)


def owner() -> User:
    """The owner who sent this request to the console."""
    return cast(User, g.get(_OWNER))
