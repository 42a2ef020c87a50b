"""The descriptions of both apps match them: every route, every field, and examples that work."""

import re
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from flask.testing import FlaskClient
from openapi_spec_validator import OpenAPIV31SpecValidator

from analytics.access.store import ADMIN_SCOPE, SCOPES
from report_app.openapi_operations import SITE_EXAMPLE, SITE_SET
from tests.support.services import ADMIN_KEY, is_of_page

APPS = ["ingest", "report"]
KEY = {"Authorization": f"Bearer {ADMIN_KEY}"}
METHODS = {"get", "post", "put", "patch", "delete"}


@pytest.fixture(params=APPS)
def app(request: pytest.FixtureRequest) -> FlaskClient:
    return request.getfixturevalue(request.param)


def described(app: FlaskClient) -> dict[str, Any]:
    return app.get("/openapi.json").json


def operations(app: FlaskClient) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, item in described(app)["paths"].items():
        yield from ((path, method, said) for method, said in item.items() if method in METHODS)


def test_every_route_is_described_and_nothing_else(app: FlaskClient):
    """Pages and their parts are for browsers, and no part of the API."""
    routes = {
        (re.sub(r"<(?:[a-z]+(?:\([^)]*\))?:)?([a-z_]+)>", r"{\1}", rule.rule), method.lower())
        for rule in app.application.url_map.iter_rules()
        if not is_of_page(rule)
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    assert {(path, method) for path, method, _ in operations(app)} == routes


def test_the_description_is_openapi_3_1(app: FlaskClient):
    assert described(app)["openapi"].startswith("3.1.")
    OpenAPIV31SpecValidator(described(app)).validate()


def test_every_operation_says_what_it_is_for_and_no_two_are_called_alike(app: FlaskClient):
    said = list(operations(app))
    assert all(each["summary"] and each["tags"] for _, _, each in said)
    assert len({each["operationId"] for _, _, each in said}) == len(said)


def test_every_field_of_a_schema_says_what_it_takes(app: FlaskClient):
    """A field that web/json_schema.py does not know would be described as any JSON."""
    for name, schema in described(app)["components"]["schemas"].items():
        for field, said in schema.get("properties", {}).items():
            assert {"type", "anyOf", "oneOf", "$ref", "const", "enum"} & set(said), f"{name}.{field}"


def test_examples_work(app: FlaskClient, report: FlaskClient):
    report.put(f"/admin/sites/{SITE_EXAMPLE}", headers=KEY, json=SITE_SET)
    tried = 0
    for path, method, said in operations(app):
        examples = {each["name"]: each for each in said["parameters"] if "example" in each}
        required = {each["name"] for each in said["parameters"] if each["required"]}
        bodies = said.get("requestBody", {}).get("content", {})
        if required - set(examples) or any("example" not in body for body in bodies.values()):
            continue
        url = path.format(**{name: each["example"] for name, each in examples.items() if each["in"] == "path"})
        query = dict(pair for each in examples.values() if each["in"] == "query" for pair in in_url(each))
        for media, body in bodies.items() or [(None, {})]:
            answer = app.open(
                url, method=method, query_string=query, headers=KEY, json=body.get("example"), content_type=media
            )
            assert str(answer.status_code) == next(iter(said["responses"])), (path, answer.get_data(as_text=True))
            tried += 1
    assert tried >= 8


def in_url(parameter: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    match parameter["example"]:
        case dict() as several:
            yield from several.items()
        case list() as several:
            yield parameter["name"], ",".join(several)
        case one:
            yield parameter["name"], one


def test_the_description_and_its_page_are_open_to_everybody(app: FlaskClient):
    assert app.get("/openapi.json").status_code == 200
    assert app.get("/docs").status_code == 200


def test_the_page_loads_from_here_only_and_may_do_nothing_else(app: FlaskClient):
    page = app.get("/docs")
    policy = page.headers["Content-Security-Policy"]
    assert "unsafe" not in policy
    assert set(re.findall(r"\S+:\S*", policy)) == {"data:;"}
    parts = re.findall(r'(?:href|src)="([^"]*)"', page.text)
    assert len(parts) == 5
    for part in parts:
        answer = app.get(f"/{part}")
        assert answer.status_code == 200
        assert "max-age" in answer.headers["Cache-Control"]


def test_the_page_has_no_other_parts(app: FlaskClient):
    for part in ("swagger-ui.js", "../app.py", "docs.html", "oauth2-redirect.html"):
        assert app.get(f"/docs/{part}").status_code == 404


def test_a_route_opens_to_the_scope_that_its_description_names_and_to_no_other(report: FlaskClient):
    report.put(f"/admin/sites/{SITE_EXAMPLE}", headers=KEY, json=SITE_SET)
    keyed = [(path, method, scope) for path, method, said in operations(report) if (scope := scope_of(said))]
    assert len(keyed) >= 25
    for path, method, scope in keyed:
        url = re.sub("{[a-z]+_id}", str(uuid4()), path)
        for scopes, allowed in (([scope], True), (sorted({*SCOPES} - {scope, ADMIN_SCOPE}), False)):
            key = report.post("/admin/keys", headers=KEY, json={"name": path, "scopes": scopes}).json["key"]
            answer = report.open(url, method=method, headers={"Authorization": f"Bearer {key}"})
            assert (answer.status_code not in (401, 403)) is allowed, (path, scopes)


def scope_of(said: dict[str, Any]) -> str | None:
    return next((scope for each in said["security"] for needed in each.values() for scope in needed), None)
