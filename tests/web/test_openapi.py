"""The descriptions of both apps match them: every route, every field, and examples that work."""

import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any, TypedDict
from uuid import uuid4

import pytest
from flask import Flask
from flask.testing import FlaskClient
from openapi_spec_validator import OpenAPIV31SpecValidator

from analytics.access.api_key import ADMIN_SCOPE, SCOPES
from report_app.page_blueprint import PageBlueprint
from report_app.site_lookup import SITE_EXAMPLE
from report_app.sites import SITE_SET
from tests.support.described_client import described_client
from tests.support.services import ADMIN_KEY
from web.docs import docs_blueprint
from web.openapi import Api, Operation, described_by

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
        if not isinstance(app.application.blueprints.get(rule.endpoint.partition(".")[0]), PageBlueprint)
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    assert {(path, method) for path, method, _ in operations(app)} == routes


@pytest.mark.parametrize("app", ["ingest_app", "report_app"])
def test_the_description_costs_nothing_before_it_is_asked_for(app: str):
    loaded = f"import sys, {app}; sys.exit('apispec' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", loaded], check=False).returncode == 0


def test_the_description_is_openapi_3_1(app: FlaskClient):
    assert described(app)["openapi"].startswith("3.1.")
    OpenAPIV31SpecValidator(described(app)).validate()


class Counted(TypedDict):
    count: int


@pytest.mark.parametrize(
    ("answer", "fault"), [({"count": 1}, ""), ({"count": "1"}, "not of type"), ({"count": 1, "more": 1}, "unexpected")]
)
def test_the_clients_of_the_tests_find_an_answer_that_is_not_described(answer: Any, fault: str):
    app = Flask("counting")

    @app.get("/count")
    @described_by(Operation(summary="Count", tag="Counting"))
    def count() -> Counted:
        return answer

    app.register_blueprint(docs_blueprint(app, Api("Counting", "")))
    client = described_client(app)
    if fault:
        with pytest.raises(AssertionError, match=fault):
            client.get("/count")
    else:
        assert client.get("/count").json == answer


def test_every_operation_has_a_summary_and_a_unique_name(app: FlaskClient):
    said = list(operations(app))
    assert all(each["summary"] and each["tags"] for _, _, each in said)
    assert len({each["operationId"] for _, _, each in said}) == len(said)


def test_every_field_of_a_schema_has_a_description(app: FlaskClient):
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


def test_the_description_and_its_page_need_no_key(app: FlaskClient):
    assert app.get("/openapi.json").status_code == 200
    assert app.get("/docs").status_code == 200


def test_the_page_loads_only_from_this_server(app: FlaskClient):
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
