"""Renders pages and parts of pages, with a Content-Security-Policy that allows only this server's own files."""

from typing import Any

from flask import Response, render_template

_ON_ALL_PAGES = "style-src 'self'; img-src 'self' data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
POLICY = f"default-src 'none'; {_ON_ALL_PAGES}"  # of pages without scripts
PAGE_POLICY = f"default-src 'none'; script-src 'self'; {_ON_ALL_PAGES}; connect-src 'self'"


def show(template: str, status: int = 200, **context: Any) -> Response:
    headers = {"Content-Security-Policy": PAGE_POLICY, "Referrer-Policy": "same-origin", "Vary": "Cookie, HX-Request"}
    return Response(render_template(template, **context), status, headers, mimetype="text/html")
