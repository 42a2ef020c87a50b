"""GET /: says what this server is and links to its main pages, for people who open its address."""

from collections.abc import Callable, Mapping

from flask import Blueprint, Response, jsonify, request
from markupsafe import escape

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


def front_page_blueprint(
    name: str, about: str, links: Mapping[str, str], own_page: Callable[[], Response] | None = None
) -> Blueprint:
    """`links`: a description of each link, by its path relative to /. `own_page`: answers browsers with the app's own
    page.
    """
    blueprint = Blueprint("front_page", __name__)
    items = "\n".join(f'<li><a href="{escape(path)}">{escape(what)}</a></li>' for path, what in links.items())
    page = _PAGE.format(name=escape(name), about=escape(about), links=items)

    @blueprint.get("/")
    def front_page() -> Response:
        """Answers with HTML if the client prefers it, as browsers do. Otherwise it answers with JSON."""
        wants_html = request.accept_mimetypes.best_match(["application/json", "text/html"]) == "text/html"
        if not wants_html:
            answer = jsonify(name=name, about=about, links=links)
        else:
            answer = own_page() if own_page else Response(page, mimetype="text/html")
        answer.vary.add("Accept")
        return answer

    return blueprint
