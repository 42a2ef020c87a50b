"""Answers with a page of the console, with a part of a page, or with a way back to a page."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from flask import Response, flash, redirect, url_for
from werkzeug.wrappers import Response as BaseResponse

from analytics.languages import gettext
from report_app.console.access import owner
from report_app.pages.rendering import show
from report_app.texts import fault, lazy

PAGES = {
    "start": lazy("Health"),
    "ledger": lazy("Ledger"),
    "dead_letters": lazy("Dead letters"),
    "rates": lazy("Rates"),
    "workers": lazy("Workers"),
    "segments": lazy("Segments"),
    "sites": lazy("Sites"),
    "notifications": lazy("Notifications"),
    "keys": lazy("API keys"),
    "users": lazy("Users"),
}

FieldErrors = dict[str, list[str]]  # what is wrong with what was sent, by field


def console_page(name: str, status: int = 200, *, within: str = "", **context: Any) -> Response:
    """The page with the name of its template. `within`: the page of the menu that it belongs to, if it is another.
    `context`: what the template needs in addition to the frame.
    """
    frame: dict[str, Any] = {"viewer": owner(), "pages": PAGES, "page": within or name}
    return show(f"console/{name}.html", status, **frame, **context)


def by_field(errors: Mapping[str, Sequence[str]]) -> FieldErrors:
    """The sentences about each field of a form. One about an item of a list names it: `goals.0.page`."""
    fields: defaultdict[str, list[str]] = defaultdict(list)
    for name, sentences in errors.items():
        field = name.partition(".")[0]
        said = map(fault, sentences)
        fields[field] += said if field == name else [f"{name}: {text}" for text in said]
    return dict(fields)


def lines_of(text: str) -> list[str]:
    """The items of a field with one item on each line."""
    return [line.strip() for line in text.splitlines() if line.strip()]


def done(message: str, page: str, **where: Any) -> BaseResponse:
    """Back to a page of the console, which says what was done."""
    flash(gettext(message))
    return redirect(url_for(f"console.{page}", **where), 303)
