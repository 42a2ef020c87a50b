"""Collects the OpenAPI 3.1 description of an app from the operations of its views (web/openapi.py).

Only GET /openapi.json needs this module. It is imported then, because apispec is large.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from apispec import APISpec
from flask import Flask
from werkzeug.wrappers import Response

from analytics.json_schema import TEXT, UUID_TEXT, Json, just, one_of, ref, schema_of
from web.auth import Check
from web.marshmallow_plugin import marshmallow_plugin
from web.openapi import JSON, PROCESS, Api, Operation, operation_of

VERSION = "1.0"  # of the API; docs/api.md says what the version promises

WHY = {
    400: "The request is not valid.",
    401: "The key is missing or wrong. Send another key.",
    403: "The key does not allow this, or the server has no key for it.",
    404: "Not found.",
    409: "Not possible in the current state.",
    413: "The body is too large.",
    414: "The URL is too long.",
    415: "The Content-Encoding is not known.",
    429: "Too many requests. Send the request again after Retry-After.",
    500: "An error in Footfall. It is logged.",
    503: "A store is unreachable or busy. Nothing was done. Send the request again later.",
}
RETRY = {
    "Retry-After": {"description": "Seconds to wait.", "required": True, "schema": {"type": "integer", "minimum": 1}}
}
MAY_RETRY = {"Retry-After": RETRY["Retry-After"] | {"required": False}}
_HEADERS: dict[int, Json] = {
    401: {"WWW-Authenticate": {"required": True, "schema": just("Bearer")}},
    429: RETRY,
    503: MAY_RETRY,
}

VARIABLE = re.compile(r"<(?:(?P<kind>[a-z]+)(?:\((?P<options>[^)]*)\))?:)?(?P<name>[a-z_]+)>")

BEARER = {
    "type": "http",
    "scheme": "bearer",
    "description": "An API key with the scope that the route names, or the ADMIN_KEY or REPORT_KEY of the server.",
}


@dataclass(frozen=True, slots=True)
class Route:
    """A described route. `answer`: the type of the JSON that the view returns, None if it returns no JSON.

    `scope`: the scope that a key needs.
    """

    method: str
    rule: str
    operation: Operation
    answer: Any
    scope: str

    @property
    def path(self) -> str:
        return VARIABLE.sub(r"{\g<name>}", self.rule)


def describe(app: Flask, api: Api) -> Json:
    """The description. Views without an operation are not part of it."""
    routes = sorted(_routes(app), key=lambda route: route.operation.tag == PROCESS)
    errors = {route.operation.error.__name__: schema_of(route.operation.error) for route in routes}
    spec = APISpec(
        api.title,
        VERSION,
        "3.1.0",
        plugins=[marshmallow_plugin()],
        info={"description": api.about},
        tags=[{"name": name} for name in dict.fromkeys(route.operation.tag for route in routes)],
    )
    spec.components.security_scheme("key", BEARER)
    for name, schema in {**errors, **api.components}.items():
        spec.components.schema(name, schema)
    for route in routes:
        spec.path(route.path, operations={route.method.lower(): _operation(route)})
    found: Json = spec.to_dict()
    return found


def _routes(app: Flask) -> Iterator[Route]:
    for rule in app.url_map.iter_rules():
        view = app.view_functions[rule.endpoint]
        if operation := operation_of(view):
            checks = app.before_request_funcs.get(rule.endpoint.rpartition(".")[0], ())
            scope = next((check.scope for check in checks if isinstance(check, Check)), "")
            for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"}):
                yield Route(method, rule.rule, operation, _json_of(view), scope)


def _json_of(view: Callable[..., Any]) -> Any:
    """The type of the JSON that a view returns, None if it returns finished responses only."""
    returned = get_type_hints(view, include_extras=True)["return"]
    kinds = get_args(returned) if get_origin(returned) in (Union, UnionType) else (returned,)
    json = tuple(kind for kind in kinds if not (isinstance(kind, type) and issubclass(kind, Response)))
    return Union[json] if json else None  # noqa: UP007 - `|` cannot join a tuple


def _operation(route: Route) -> Json:
    described = route.operation
    parameters = [*_variables(route), *_query(described)]
    said: Json = {
        "operationId": _operation_id(route),
        "summary": described.summary,
        "tags": [described.tag],
        "parameters": parameters,
        "responses": _responses(route, takes_something=bool(parameters or described.body)),
        "security": _security(route),
    }
    if note := " ".join(filter(None, [described.note, _scope(route)])):
        said["description"] = note
    if described.body:
        said["requestBody"] = {"required": described.body_required, "content": _content(described)}
    return said


def _operation_id(route: Route) -> str:
    words = re.sub("[^a-z]+", "_", f"{route.method} {route.path}".lower()).strip("_")
    return words + ("_slash" if route.rule.endswith("/") else "")


def _scope(route: Route) -> str:
    if optional := route.operation.optional_scope:
        return f"No key is needed. An API key with the scope `{optional}` allows more."
    return f"An API key needs the scope `{route.scope}`." if route.scope else ""


def _security(route: Route) -> list[Json]:
    if optional := route.operation.optional_scope:
        return [{}, {"key": [optional]}]
    return [{"key": [route.scope]}] if route.scope else []


def _variables(route: Route) -> list[Json]:
    return [
        _with_example(
            {"in": "path", "name": found["name"], "required": True, "schema": _variable(found, route.operation)},
            route.operation,
        )
        for found in VARIABLE.finditer(route.rule)
    ]


def _variable(found: re.Match[str], described: Operation) -> Json:
    if found["name"] in described.variables:
        return described.variables[found["name"]]
    match found["kind"]:
        case "uuid":
            return UUID_TEXT
        case "any":
            return one_of(*(option.strip(" '\"") for option in found["options"].split(",")))
    return TEXT | {"minLength": 1}


def _query(described: Operation) -> list[Json]:
    listed = [_with_example({"in": "query", **each}, described) for each in described.parameters]
    return [{"in": "query", "schema": described.query}, *listed] if described.query else listed


def _with_example(parameter: Json, described: Operation) -> Json:
    if parameter["name"] in described.examples:
        return parameter | {"example": described.examples[parameter["name"]]}
    return parameter


def _content(described: Operation) -> Json:
    example = {"example": described.examples["body"]} if "body" in described.examples else {}
    return {media: {"schema": schema, **example} for media, schema in described.body.items()}


def _responses(route: Route, takes_something: bool) -> Json:
    described = route.operation
    says = dict(described.says)
    if any(found["kind"] for found in VARIABLE.finditer(route.rule)):
        says.setdefault(404, WHY[404])
    if takes_something:
        says.setdefault(400, WHY[400])
    if takes_something and not described.body:
        says.setdefault(414, WHY[414])
    if route.scope:
        says.setdefault(401, WHY[401])
        says.setdefault(403, WHY[403])
    if described.body:
        says.setdefault(413, WHY[413])
    if described.uses_stores:
        says.setdefault(503, WHY[503])
    says.setdefault(500, WHY[500])
    answers = {**({JSON: route.answer} if route.answer else {}), **described.answer}
    fine: Json = {"description": "Success.", "content": {media: _media(body) for media, body in answers.items()}}
    if described.headers:
        fine["headers"] = dict(described.headers)
    others = {str(status): _other(status, says[status], described.error) for status in sorted(says)}
    return {str(described.status): fine, **others}


def _media(body: Any) -> Json:
    schema = body if isinstance(body, dict) else schema_of(body)
    return {"schema": schema} if schema else {}


def _other(status: int, why: str, shape: type) -> Json:
    """An error, or a success without a body."""
    if status < 400:
        return {"description": why}
    error: Json = {"description": why or WHY[status], "content": {JSON: {"schema": ref(shape.__name__)}}}
    return error | ({"headers": _HEADERS[status]} if status in _HEADERS else {})
