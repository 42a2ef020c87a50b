"""PageBlueprint: routes that are pages for people. All other routes are the API."""

from typing import Any

import structlog
from flask import Blueprint, Response, render_template
from flask_wtf.csrf import CSRFError
from werkzeug.exceptions import ClientDisconnected, HTTPException, TooManyRequests

from analytics.unavailable import Unavailable
from report_app.page_access import check_csrf
from web.errors import RETRY_AFTER, note_broken

log = structlog.get_logger()

POLICY = (
    "default-src 'none'; style-src 'self'; img-src 'self' data:; form-action 'self'; base-uri 'none';"
    " frame-ancestors 'none'"
)

_STORES = {"redis": "Redis", "mongodb": "MongoDB"}


class PageBlueprint(Blueprint):
    """Requests that change something need a CSRF token. Pages load nothing from other servers, run no script and cannot
    be framed, unless they set another policy. Their errors are HTML that says what to do, where those of the API are
    JSON. Bugs and broken requests are answered as in the API (web/errors.py), whose description leaves pages out.
    """

    def __init__(self, name: str, import_name: str, **options: Any) -> None:
        super().__init__(name, import_name, **options)
        self.before_request(check_csrf)
        self.after_request(_with_policy)
        self.register_error_handler(Unavailable, _unavailable)
        self.register_error_handler(CSRFError, _form_expired)
        self.register_error_handler(TooManyRequests, _too_many)
        self.register_error_handler(HTTPException, _http_error)


def _with_policy(response: Response) -> Response:
    response.headers.setdefault("Content-Security-Policy", POLICY)
    return response


def _page(status: int, title: str, message: str, headers: dict[str, str] | None = None) -> Response:
    return Response(render_template("accounts/error.html", title=title, message=message), status, headers)


def _unavailable(error: Unavailable) -> Response:
    log.warning("page_unavailable", store=error.store, error=str(error))
    message = f"{_STORES.get(error.store, error.store)} is not reachable. Load the page again in a minute."
    return _page(503, "Not available", message, {"Retry-After": str(RETRY_AFTER)})


def _form_expired(_: CSRFError) -> Response:
    return _page(400, "The form expired", "Nothing was changed. Go back, load the page again and send the form again.")


def _too_many(error: TooManyRequests) -> Response:
    seconds = int(dict(error.get_headers())["Retry-After"])
    message = f"There were too many attempts. Try again in {max(1, round(seconds / 60))} minutes."
    return _page(429, "Too many attempts", message, {"Retry-After": str(seconds)})


def _http_error(error: HTTPException) -> Response:
    if isinstance(error, ClientDisconnected):
        note_broken(error)
    return _page(error.code or 500, error.name, error.description or "")
