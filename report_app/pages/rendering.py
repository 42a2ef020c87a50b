"""Renders pages and parts of pages, with a Content-Security-Policy that allows only this server's own files."""

from typing import Any

from flask import Response, render_template, request

PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)


def show(template: str, status: int = 200, **context: Any) -> Response:
    theme = request.cookies.get("theme")
    text = render_template(template, theme=theme if theme in ("light", "dark") else None, **context)
    headers = {"Content-Security-Policy": PAGE_POLICY, "Referrer-Policy": "same-origin", "Vary": "Cookie, HX-Request"}
    return Response(text, status, headers, mimetype="text/html")
