"""GET /: says what this server is and links to its main pages, for people who open its address."""

from collections.abc import Callable, Mapping
from typing import TypedDict

from flask import Blueprint, Response, jsonify, request
from markupsafe import escape

from web.openapi import HTML, JSON, PROCESS, Operation, described_by

_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{name}</title>
<h1>{name}</h1>
<p>{about}</p>
<ul>
{links}
</ul>
</html>
"""


class FrontPage(TypedDict):
    name: str
    about: str
    links: dict[str, str]


_FRONT_PAGE = Operation(
    summary="What this server is",
    note="HTML for browsers.",
    tag=PROCESS,
    answer={JSON: FrontPage, HTML: str},
    uses_stores=False,
)


def front_page_blueprint(
    name: str, about: str, links: Mapping[str, str], own_page: Callable[[], Response] | None = None
) -> Blueprint:
    """`links`: a description of each link, by its path relative to /. `own_page`: answers browsers with the app's own
    page.
    """
    blueprint = Blueprint("front_page", __name__)
    items = "\n".join(f'<li><a href="{escape(path)}">{escape(what)}</a></li>' for path, what in links.items())
    said: FrontPage = {"name": name, "about": about, "links": dict(links)}
    page = _PAGE.format(name=escape(name), about=escape(about), links=items)

    @blueprint.get("/")
    @described_by(_FRONT_PAGE)
    def front_page() -> Response:
        """Answers with HTML if the client prefers it, as browsers do. Otherwise it answers with JSON."""
        wants_html = request.accept_mimetypes.best_match(["application/json", "text/html"]) == "text/html"
        if wants_html and own_page:
            answer = own_page()
        elif wants_html:
            answer = Response(page, mimetype="text/html")
        else:
            answer = jsonify(said)
        answer.vary.add("Accept")
        return answer

    return blueprint
