"""Who may do what, as each key comes in `Authorization: Bearer <key>`:

    administration      the admin key; without an ADMIN_KEY, nobody
    reports             the report key or the admin key; without a REPORT_KEY, everybody
    reports of persons  the report key or the admin key; without either, nobody

"Nobody" holds on loopback too: what listens there is often behind a proxy.
"""

from collections.abc import Callable

from flask import Response, request

from config.keys import holds
from web.errors import error_body, error_response

Check = Callable[[], Response | None]

CLOSED = "Closed until {name} is set; then send it as `Authorization: Bearer <{name}>`."
WRONG = "Send the {word} key as `Authorization: Bearer <{name}>`."


def needs_admin_key(admin_key: str) -> Check:
    """A before_request function that lets nobody else pass."""
    return _needs_one_of([admin_key], "admin")


def needs_report_key(report_key: str, admin_key: str) -> Check:
    """The same for reports; where there is no report key, it lets everybody pass."""
    return needs_report_key_always(report_key, admin_key) if report_key else lambda: None


def needs_report_key_always(report_key: str, admin_key: str) -> Check:
    """The same for what shows single persons, which is open to nobody without a key."""
    return _needs_one_of([report_key, admin_key], "report")


def _needs_one_of(keys: list[str], word: str) -> Check:
    name = f"{word.upper()}_KEY"

    def check() -> Response | None:
        if not any(keys):
            return error_response(403, error_body(f"{word}_key_not_set", CLOSED.format(name=name)))
        if not any(holds(key, request.headers.get("Authorization", "")) for key in keys):
            message = WRONG.format(word=word, name=name)
            return error_response(401, error_body("unauthorized", message), {"WWW-Authenticate": "Bearer"})
        return None

    return check
