"""GET and POST /opt-out: a page where visitors opt out of being counted, or opt in again.

The browser keeps the choice in a cookie of this server. The cookie holds nothing else, and the collector drops every
hit that has it, for any site. On pages of another site the browser sends the cookie only if it allows third-party
cookies. docs/privacy.md says what a site can put into its own page instead. The page has no script and loads nothing
from other servers.
"""

from base64 import b64encode
from hashlib import sha256
from urllib.parse import urlsplit

from flask import Blueprint, Response, request
from markupsafe import escape
from marshmallow import EXCLUDE, Schema, fields
from marshmallow.validate import OneOf

from analytics.schema_fields import Text
from ingest_app.hit import OPTED_OUT
from web.errors import error_body, error_response
from web.request_data import read

COOKIE, _, OUT = OPTED_OUT.partition("=")
_KEPT = 400 * 86_400  # seconds; no browser keeps a cookie for longer

STYLE = "body{font:1.1em/1.5 sans-serif;max-width:35em;margin:3em auto;padding:0 1em}button{font:inherit}"
STYLE_HASH = b64encode(sha256(STYLE.encode()).digest()).decode()
_HEADERS = {
    "Content-Security-Policy": f"default-src 'none'; style-src 'sha256-{STYLE_HASH}'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",  # the page shows the choice of this browser
    "Referrer-Policy": "same-origin",  # with another policy the page's own form would send the origin null
}
_PAGE = """<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>Opt out</title><meta name="viewport" content="width=device-width">
<style>{style}</style></head>
<body>
<h1>Do you want to be counted?</h1>
<p>Footfall counts what happens on {what}, to show how it is used. {state}</p>
<form method="post" action="opt-out">
<input type="hidden" name="site_id" value="{site_id}">
<button name="choice" value="{choice}">{label}</button>
</form>
<p>A cookie in this browser keeps your choice, and contains nothing else. It stays until you delete your cookies.</p>
</body>
</html>
"""
COUNTED = "This browser may be counted.", "out", "Do not count this browser"
NOT_COUNTED = "This browser is not counted.", "in", "Count this browser again"
ELSEWHERE = "A page of another site sent this form. Use the opt-out page of this server."


class OptOutQuery(Schema):
    class Meta:
        unknown = EXCLUDE  # links to the page may carry other parameters

    site_id = Text(longest=128, load_default="")


class Chosen(OptOutQuery):
    choice = fields.String(required=True, validate=OneOf(["out", "in"]))


def opting_out_blueprint() -> Blueprint:
    blueprint = Blueprint("opting_out", __name__)

    @blueprint.get("/opt-out")
    def ask() -> Response:
        return _page(read(OptOutQuery(), request.args)["site_id"], request.cookies.get(COOKIE) == OUT)

    @blueprint.post("/opt-out")
    def choose() -> Response:
        if not _is_our_page():
            return error_response(403, error_body("other_site", ELSEWHERE))
        chosen = read(Chosen(), request.form)
        is_out = chosen["choice"] == "out"
        answer = _page(chosen["site_id"], is_out)
        # A browser sends the cookie on another site's pages only if it is SameSite=None, and accepts that only over
        # HTTPS.
        same_site = "None" if request.is_secure else "Lax"
        if is_out:
            answer.set_cookie(COOKIE, OUT, _KEPT, secure=request.is_secure, httponly=True, samesite=same_site)
        else:
            answer.delete_cookie(COOKIE, secure=request.is_secure, httponly=True, samesite=same_site)
        return answer

    return blueprint


def _is_our_page() -> bool:
    """Whether a page of this server sent the request.

    Browsers say so in Sec-Fetch-Site. Older browsers, and all browsers without TLS, send Origin or at least Referer. A
    request with none of these does not come from a browser's form.
    """
    fetched = request.headers.get("Sec-Fetch-Site")
    if fetched is not None:
        return fetched in ("same-origin", "none")
    sender = request.headers.get("Origin") or request.headers.get("Referer")
    return sender is None or _host_of(sender) == _host_of(request.host_url) != (None, None)


def _host_of(url: str) -> tuple[str | None, int | None]:
    """Host and port of a URL. The port is None if it is a default one, because a proxy may have changed the scheme."""
    try:
        parts = urlsplit(url)
        return parts.hostname, None if parts.port in (80, 443) else parts.port
    except ValueError:
        return None, None


def _page(site_id: str, is_out: bool) -> Response:
    state, choice, label = NOT_COUNTED if is_out else COUNTED
    shown = escape(site_id)
    page = _PAGE.format(style=STYLE, what=shown or "this site", state=state, site_id=shown, choice=choice, label=label)
    return Response(page, headers=_HEADERS, mimetype="text/html")
