"""The cookie of the pages: signed by Flask, and for this host only.

It holds the token of the session, whose data is in Redis (analytics/accounts/sessions.py), and what a visitor needs
before they sign in. So a visitor who does not sign in writes nothing to a store.
"""

from datetime import timedelta

from flask import Flask, request
from flask.sessions import SecureCookieSessionInterface

from analytics.accounts.sessions import SESSION_LIFE

HTTP_COOKIE, HTTPS_COOKIE = "footfall", "__Host-footfall"


class _HostCookie(SecureCookieSessionInterface):
    """Over https, the cookie is Secure and has the prefix __Host-: no other host and no http page can set it."""

    def get_cookie_name(self, app: Flask) -> str:
        return HTTPS_COOKIE if request.is_secure else HTTP_COOKIE

    def get_cookie_secure(self, app: Flask) -> bool:
        return request.is_secure


def use_session_cookie(app: Flask, keys: list[bytes], life: timedelta = SESSION_LIFE) -> None:
    """`keys`: the key that signs, and then those that are still accepted."""
    app.session_interface = _HostCookie()
    app.secret_key, *fallbacks = keys
    app.config.update(
        SECRET_KEY_FALLBACKS=fallbacks,
        PERMANENT_SESSION_LIFETIME=life,
        SESSION_REFRESH_EACH_REQUEST=False,  # the cookie changes only if its content does
        SESSION_COOKIE_HTTPONLY=True,
        SESSION_COOKIE_SAMESITE="Lax",
    )
