"""A test client that compares the JSON of every answer with the description of its route."""

from functools import cache
from typing import Any

from flask import Flask
from flask.testing import FlaskClient
from jsonschema import Draft202012Validator
from werkzeug.exceptions import HTTPException
from werkzeug.test import TestResponse
from werkzeug.wrappers import Request

from web.description import VARIABLE

_descriptions: dict[str, dict[str, Any]] = {}  # by the name of the app


class DescribedClient(FlaskClient):
    def open(self, *args: Any, **kwargs: Any) -> TestResponse:
        answer = super().open(*args, **kwargs)
        if answer.is_json and (route := route_of(self.application, answer.request)):
            validator = validator_of(self.application.name, *route, str(answer.status_code))
            wrong = [f"{error.json_path}: {error.message}" for error in validator.iter_errors(answer.json)]
            assert not wrong, f"{route} answers {answer.status_code} other than described: {wrong}"
        return answer


def described_client(app: Flask) -> FlaskClient:
    if app.name not in _descriptions:
        _descriptions[app.name] = app.test_client().get("/openapi.json").json
        close(_descriptions[app.name])
    app.test_client_class = DescribedClient
    return app.test_client()


def close(schema: Any) -> None:
    """Makes undescribed fields of objects an error. Clients must accept new fields, but tests must not."""
    if isinstance(schema, dict):
        if "properties" in schema:
            schema.setdefault("additionalProperties", False)
        for inner in schema.values():
            close(inner)
    elif isinstance(schema, list):
        for inner in schema:
            close(inner)


def route_of(app: Flask, request: Request) -> tuple[str, str] | None:
    """The path and the method of the route that answered. None if there is none, or if it is not described."""
    try:
        rule, _ = app.url_map.bind("").match(request.path, request.method, return_rule=True)
    except HTTPException:
        return None
    path, method = VARIABLE.sub(r"{\g<name>}", rule.rule), request.method.lower()
    return (path, method) if method in _descriptions[app.name]["paths"].get(path, {}) else None


@cache
def validator_of(app_name: str, path: str, method: str, status: str) -> Draft202012Validator:
    described = _descriptions[app_name]
    answers = described["paths"][path][method]["responses"]
    assert status in answers, f"{method} {path} answers {status}, which is not described"
    schema = answers[status]["content"]["application/json"]["schema"]
    whole = {**schema, "components": described["components"]}
    return Draft202012Validator(whole, format_checker=Draft202012Validator.FORMAT_CHECKER)
