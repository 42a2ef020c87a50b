"""PageBlueprint: routes that are pages for people. All other routes are the API."""

from collections.abc import Callable
from typing import Any

from flask import Blueprint, Response

from report_app.page_access import check_csrf
from report_app.pages.rendering import POLICY
from report_app.translation import speak_as_browser
from report_app.trouble import answer_trouble


class PageBlueprint(Blueprint):
    """Requests that change something need a CSRF token. Pages load nothing from other servers, run no script and cannot
    be framed, unless they set another policy. Their errors, also those by bugs, are HTML that says what to do
    (trouble.py), where those of the API are JSON. `before_body` is called before the token is read from the body.
    """

    def __init__(
        self, name: str, import_name: str, before_body: Callable[[], None] | None = None, **options: Any
    ) -> None:
        super().__init__(name, import_name, **options)
        self.before_request(speak_as_browser)
        if before_body:
            self.before_request(before_body)
        self.before_request(check_csrf)
        self.after_request(_with_policy)
        self.register_error_handler(Exception, answer_trouble)


def _with_policy(response: Response) -> Response:
    response.headers.setdefault("Content-Security-Policy", POLICY)
    return response
