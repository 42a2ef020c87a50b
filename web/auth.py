"""Who may do what: routes for administration need the admin key, as `Authorization: Bearer <ADMIN_KEY>`.

Without an ADMIN_KEY set they are closed to everybody, on loopback too: what listens there is often behind a proxy.
"""

from collections.abc import Callable

from flask import Response, request

from config.keys import holds
from web.errors import error_body, error_response

CLOSED = "Closed until ADMIN_KEY is set; then send it as `Authorization: Bearer <ADMIN_KEY>`."
WRONG = "Send the admin key as `Authorization: Bearer <ADMIN_KEY>`."


def needs_admin_key(admin_key: str) -> Callable[[], Response | None]:
    """A before_request function that lets nobody else pass."""

    def check() -> Response | None:
        if not admin_key:
            return error_response(403, error_body("admin_key_not_set", CLOSED))
        if not holds(admin_key, request.headers.get("Authorization", "")):
            return error_response(401, error_body("unauthorized", WRONG), {"WWW-Authenticate": "Bearer"})
        return None

    return check
