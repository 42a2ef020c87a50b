"""Renders pages and parts of pages, with a Content-Security-Policy that allows only this server's own files."""

from typing import Any

from flask import Response, render_template

from report_app.page_access import framers

_NO_FRAME = "frame-ancestors 'none'"
_ON_ALL_PAGES = f"style-src 'self'; img-src 'self' data:; form-action 'self'; base-uri 'none'; {_NO_FRAME}"
POLICY = f"default-src 'none'; {_ON_ALL_PAGES}"  # of pages without scripts
PAGE_POLICY = f"default-src 'none'; script-src 'self'; {_ON_ALL_PAGES}; connect-src 'self'"


def show(template: str, status: int = 200, policy: str = PAGE_POLICY, **context: Any) -> Response:
    """The page. If it is embedded, the pages of the site's framing origins may show it in a frame."""
    origins = framers()
    if origins:
        policy = policy.replace(_NO_FRAME, f"frame-ancestors {' '.join(origins)}")
    headers = {
        "Content-Security-Policy": policy,
        "Referrer-Policy": "same-origin",
        "Vary": "Cookie, HX-Request, Accept-Language",
    }
    html = render_template(template, is_embedded=bool(origins), **context)
    return Response(html, status, headers, mimetype="text/html")
