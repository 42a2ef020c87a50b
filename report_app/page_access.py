"""Who looks at the pages: the sign-in with a key, and what the key may read.

A person signs in with an API key that has the scope stats:read, or with REPORT_KEY or ADMIN_KEY. The cookie holds the
key itself, which is checked at every request, so a revoked key ends its session within 5 seconds. If reports are open
(Settings.reports_are_open), no sign-in is needed.
"""

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from flask import Blueprint, Flask, Response, abort, after_this_request, current_app, g, redirect, request, url_for
from werkzeug.wrappers import Response as BaseResponse

from analytics.access.api_key import READ_SCOPE, ApiKey
from config.bearer import holds
from config.settings import Settings
from report_app.pages.rendering import show

SESSION_COOKIE, TOKEN_COOKIE = "footfall_session", "footfall_token"
_KEPT = 30 * 86_400  # seconds

ResponseT = TypeVar("ResponseT", bound=BaseResponse)


@dataclass(frozen=True)
class Viewer:
    """`key` limits what the viewer may read. None: everything."""

    name: str
    is_owner: bool
    key: ApiKey | None = None

    def may_read(self, site_id: str) -> bool:
        return self.key is None or self.key.may(READ_SCOPE, site_id)

    def may_edit(self, site_id: str) -> bool:
        return self.is_owner


@dataclass(frozen=True)
class _Keys:
    settings: Settings
    find: Callable[[str], ApiKey | None]

    def viewer(self, secret: str) -> Viewer | None:
        """Raises Unavailable."""
        sent = f"Bearer {secret}"
        if self.settings.admin_key and holds(self.settings.admin_key, sent):
            return Viewer("Administrator", is_owner=True)
        if self.settings.report_key and holds(self.settings.report_key, sent):
            return Viewer("Reports", is_owner=False)
        key = self.find(secret) if secret else None
        if key is not None and key.has(READ_SCOPE):
            return Viewer(key.name, is_owner=False, key=key)
        return Viewer("Everyone", is_owner=False) if self.settings.reports_are_open else None


def viewer() -> Viewer:
    """The viewer of this request. Without one, the answer is the way to the sign-in."""
    found = _keys().viewer(request.cookies.get(SESSION_COOKIE, ""))
    if found is None:
        abort(_to_login())
    g.api_key_id = str(found.key.id) if found.key else ""
    return found


def csrf_token() -> str:
    """What a form must send as `csrf_token`: the content of a cookie, which other sites cannot read."""
    if "csrf_token" not in g:
        g.csrf_token = request.cookies.get(TOKEN_COOKIE) or secrets.token_urlsafe(24)
        after_this_request(lambda answer: _with_cookie(answer, TOKEN_COOKIE, g.csrf_token))
    return str(g.csrf_token)


def register_page_access(app: Flask, settings: Settings, find: Callable[[str], ApiKey | None]) -> None:
    """`find`: returns the API key for a secret if it is valid now, and may raise Unavailable."""
    app.extensions["page_access"] = _Keys(settings, find)
    app.register_blueprint(_blueprint())


def _keys() -> _Keys:
    found: _Keys = current_app.extensions["page_access"]
    return found


def _blueprint() -> Blueprint:
    blueprint = Blueprint("page_access", __name__)

    @blueprint.get("/login")
    def login() -> Response:
        return show("login.html", token=csrf_token(), failed=False)

    @blueprint.post("/login")
    def sign_in() -> BaseResponse:
        _check_token()
        secret = request.form.get("key", "").strip()
        if _keys().viewer(secret) is None:
            return show("login.html", 401, token=csrf_token(), failed=True)
        return _with_cookie(redirect(_next(), 303), SESSION_COOKIE, secret)

    @blueprint.post("/logout")
    def sign_out() -> BaseResponse:
        _check_token()
        answer = redirect(url_for("page_access.login"), 303)
        answer.delete_cookie(SESSION_COOKIE)
        return answer

    return blueprint


def _to_login() -> BaseResponse:
    if request.headers.get("HX-Request"):
        return Response(status=401, headers={"HX-Redirect": url_for("page_access.login")})
    return redirect(url_for("page_access.login", next=request.full_path.rstrip("?")), 303)


def _next() -> str:
    """Where the sign-in leads: only to a page of this server."""
    wanted = request.args.get("next", "/")
    return wanted if wanted.startswith("/") and wanted[1:2] not in ("/", "\\") else "/"


def _check_token() -> None:
    sent, known = request.form.get("csrf_token", ""), request.cookies.get(TOKEN_COOKIE, "")
    if not known or not secrets.compare_digest(sent.encode(), known.encode()):
        abort(400, "The form is too old. Load the page again, and send it again.")


def _with_cookie(answer: ResponseT, name: str, value: str) -> ResponseT:
    answer.set_cookie(name, value, max_age=_KEPT, secure=request.is_secure, httponly=True, samesite="Lax")
    return answer
