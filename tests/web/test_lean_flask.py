"""LeanFlask answers as Flask does."""

from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask, Response, redirect, request, url_for
from werkzeug.test import EnvironBuilder

from web.lean_flask import LeanFlask


def made_by(kind: type[Flask]) -> Flask:
    app = kind("app", static_folder=None)

    @app.post("/event")
    def take() -> Response:
        return Response(request.get_data(), 202, {"X-Own": "1"})

    @app.get("/pages/<int:number>/")
    def page(number: int) -> dict[str, Any]:
        return {"number": number, "url": url_for("page", number=2, _external=True), "host": request.host}

    @app.get("/away")
    def away() -> Any:
        return redirect("/pages/1/")

    @app.get("/pieces")
    def pieces() -> Response:
        return Response(iter(["a", "b"]))

    @app.get("/nothing")
    def nothing() -> tuple[str, int]:
        return "", 204

    @app.get("/text")
    def text() -> Response:
        return Response(["ä", "b"])

    return app


REQUESTS: dict[str, dict[str, Any]] = {
    "a post": {"path": "/event", "method": "POST", "data": b"1"},
    "a method that a path does not take": {"path": "/event", "method": "DELETE"},
    "the methods of a path": {"path": "/event", "method": "OPTIONS"},
    "a path with a variable": {"path": "/pages/7/"},
    "a path without its last slash": {"path": "/pages/7", "query_string": "a=1"},
    "two slashes": {"path": "//event", "method": "POST"},
    "two slashes within": {"path": "/pages//7/"},
    "no such path": {"path": "/pages/x/"},
    "encoded": {"path": "/pages/%C3%A4"},
    "a redirect": {"path": "/away"},
    "a body in pieces": {"path": "/pieces"},
    "no body": {"path": "/nothing"},
    "text in pieces": {"path": "/text"},
    "only the head": {"path": "/pages/7/", "method": "HEAD"},
    "another host": {"path": "/pages/7/", "base_url": "https://Stats.Example:8443/"},
    "a host that cannot be one": {"path": "/pages/7/", "headers": {"Host": "a b/@"}},
    "a port": {"path": "/pages/7/", "headers": {"Host": "stats.example:80"}},
}


def answer(app: Flask, asked: dict[str, Any]) -> tuple[Any, ...]:
    said: list[Any] = []
    environ = EnvironBuilder(**asked).get_environ()
    pieces = app(environ, lambda status, headers, _=None: said.extend([status, sorted(headers)]))
    return *said, b"".join(pieces)


@pytest.mark.parametrize("name", REQUESTS)
def test_a_lean_app_answers_as_flask_does(name: str):
    lean, usual = made_by(LeanFlask), made_by(Flask)
    for _ in range(2):  # it remembers routes and hosts
        assert answer(lean, REQUESTS[name]) == answer(usual, REQUESTS[name])


def test_only_routes_without_variables_are_remembered():
    app = made_by(LeanFlask)
    assert isinstance(app, LeanFlask)
    for number in range(20):
        answer(app, {"path": f"/pages/{number}/"})
        answer(app, {"path": f"/none/{number}/"})
        answer(app, {"path": "/event", "method": "POST"})
    assert list(app.fixed_routes) == [("POST", "/event")]


def test_what_a_response_closes_is_closed():
    closed: list[bool] = []
    app = LeanFlask("app", static_folder=None)

    @app.get("/")
    def page() -> Response:
        response = Response("text")
        response.call_on_close(lambda: closed.append(True))
        return response

    environ = EnvironBuilder().get_environ()
    pieces: Any = app(environ, lambda *_: None)
    close: Callable[[], None] = pieces.close
    close()
    assert closed == [True]
