"""Describes an app's routes in OpenAPI 3.1.

Each app has a table with an `Operation` per route, by method and Flask rule (ingest_app/openapi_operations.py,
report_app/openapi_operations.py). `describe` returns the description as JSON. It derives some parts, which the tables
therefore omit: path variables, and the errors for a missing key, a large body and an unreachable store.

To describe a route, add an entry to its app's table. tests/web/test_openapi.py lists missing routes.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from apispec import APISpec

from analytics.access.api_key import METRICS_SCOPE
from web.docs import CONTENT_TYPES, PART
from web.json_schema import (
    FIELD_RULES,
    NUMBER,
    TEXT,
    UUID,
    Json,
    Rule,
    an_object,
    just,
    list_of,
    map_of,
    one_of,
    plugin,
)

VERSION = "1.0"  # of the API; docs/api.md says what the version promises
JSON = "application/json"
NDJSON = "application/x-ndjson"

ERROR = an_object(
    {
        "success": just(False),
        "error": an_object(
            {
                "code": TEXT | {"description": "For programs. It does not change."},
                "message": TEXT | {"description": "For people. It may change."},
            },
            {"fields": map_of(list_of(TEXT)) | {"description": "What is wrong, by the name of the field."}},
        ),
    }
)
LATENCY = an_object({"ok": {"type": "boolean"}, "latency_ms": NUMBER}, {"error": TEXT})
SAID = {"code": "invalid_event", "message": "The event was not accepted: see path.", "fields": {"path": ["Too long."]}}

# The shapes of errors, by their names in the description's components.
_OURS, UNREADY, PLAUSIBLES, DROP_INS, EVENT_BODIES = (
    "Error",
    "NotReadyError",
    "PlausibleError",
    "DropInError",
    "EventError",
)
WARNING = {"field": TEXT, "message": TEXT}
ERRORS = {
    _OURS: ERROR | {"examples": [{"success": False, "error": SAID}]},
    UNREADY: an_object(ERROR["properties"], {"stores": map_of(LATENCY)}),
    EVENT_BODIES: an_object(ERROR["properties"], {"warnings": list_of(an_object(WARNING))}),
    PLAUSIBLES: an_object({"error": TEXT}),
    DROP_INS: an_object({**ERROR["properties"], "code": TEXT, "message": TEXT}, {"errors": map_of(list_of(TEXT))}),
}

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """A route's input and answers. Schemas are JSON Schema, or marshmallow schemas (as classes).

    `answer`: by media type, the body of the answer with `status`. `scope`: the scope that a key needs. If
    `key_optional`, the route needs no key, and a key allows more. `query`: a marshmallow schema. `parameters`: other
    parameters, in OpenAPI form. `variables`: more about the path's variables. `body`: by media type. `says`: the errors
    that do not follow from the rest, and descriptions of errors. `examples`: by parameter name, or by `body`. They work
    on any site.
    """

    summary: str
    tag: str
    answer: Mapping[str, object]
    status: int = 200
    note: str = ""
    scope: str = ""
    key_optional: bool = False
    query: type | None = None
    parameters: Sequence[Json] = ()
    variables: Mapping[str, Json] = field(default_factory=dict)
    body: Mapping[str, object] = field(default_factory=dict)
    body_required: bool = True
    headers: Mapping[str, Json] = field(default_factory=dict)
    says: Mapping[int, str] = field(default_factory=dict)
    error: str = _OURS
    uses_stores: bool = True
    examples: Mapping[str, object] = field(default_factory=dict)


def describe(
    title: str,
    about: str,
    operations: Mapping[str, Operation],
    components: Mapping[str, Json],
    rules: Mapping[object, Rule],
) -> Json:
    """The description.

    `operations`: by method and rule, such as "GET /stats". `components`: schemas that others refer to.

    `rules`: the rules of the app's own fields (web/json_schema.py).
    """
    spec = APISpec(
        title,
        VERSION,
        "3.1.0",
        plugins=[plugin({**FIELD_RULES, **rules})],
        info={"description": about},
        tags=[{"name": name} for name in dict.fromkeys(operation.tag for operation in operations.values())],
    )
    spec.components.security_scheme("key", BEARER)
    for name, schema in {**ERRORS, **components}.items():
        spec.components.schema(name, schema)
    for name, operation in operations.items():
        method, _, rule = name.partition(" ")
        spec.path(VARIABLE.sub(r"{\g<name>}", rule), operations={method.lower(): _operation(name, operation)})
    found: Json = spec.to_dict()
    return found


def ref(name: str) -> Json:
    """A reference to a component."""
    return {"$ref": f"#/components/schemas/{name}"}


def _operation(name: str, described: Operation) -> Json:
    rule = name.partition(" ")[2]
    parameters = [*_variables(rule, described), *_query(described)]
    said: Json = {
        "operationId": re.sub("[^a-z]+", "_", VARIABLE.sub(r"\g<name>", name).lower()).strip("_")
        + ("_slash" if rule.endswith("/") else ""),
        "summary": described.summary,
        "tags": [described.tag],
        "parameters": parameters,
        "responses": _responses(described, rule, takes_something=bool(parameters or described.body)),
        "security": _security(described),
    }
    if note := " ".join(filter(None, [described.note, _scope(described)])):
        said["description"] = note
    if described.body:
        said["requestBody"] = {"required": described.body_required, "content": _content(described)}
    return said


def _scope(described: Operation) -> str:
    if not described.scope:
        return ""
    if described.key_optional:
        return f"No key is needed. An API key with the scope `{described.scope}` allows more."
    return f"An API key needs the scope `{described.scope}`."


def _security(described: Operation) -> list[Json]:
    if not described.scope:
        return []
    needed = {"key": [described.scope]}
    return [{}, needed] if described.key_optional else [needed]


def _variables(rule: str, described: Operation) -> list[Json]:
    return [
        _with_example(
            {"in": "path", "name": found["name"], "required": True, "schema": _variable(found, described)}, described
        )
        for found in VARIABLE.finditer(rule)
    ]


def _variable(found: re.Match[str], described: Operation) -> Json:
    if found["name"] in described.variables:
        return described.variables[found["name"]]
    match found["kind"]:
        case "uuid":
            return UUID
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


def _responses(described: Operation, rule: str, takes_something: bool) -> Json:
    says = dict(described.says)
    if any(found["kind"] for found in VARIABLE.finditer(rule)):
        says.setdefault(404, WHY[404])
    if takes_something:
        says.setdefault(400, WHY[400])
    if takes_something and not described.body:
        says.setdefault(414, WHY[414])
    if described.scope and not described.key_optional:
        says.setdefault(401, WHY[401])
        says.setdefault(403, WHY[403])
    if described.body:
        says.setdefault(413, WHY[413])
    if described.uses_stores:
        says.setdefault(503, WHY[503])
    says.setdefault(500, WHY[500])
    fine: Json = {"description": "Success.", "content": {media: _media(x) for media, x in described.answer.items()}}
    if described.headers:
        fine["headers"] = dict(described.headers)
    errors = {str(status): _error(status, says[status], described.error) for status in sorted(says)}
    return {str(described.status): fine, **errors}


def _media(schema: object) -> Json:
    return {"schema": schema} if schema else {}


def _error(status: int, why: str, shape: str) -> Json:
    error: Json = {"description": why or WHY[status], "content": {JSON: {"schema": ref(shape)}}}
    return error | ({"headers": _HEADERS[status]} if status in _HEADERS else {})


def common(stores: Sequence[str]) -> dict[str, Operation]:
    """The operations of both apps. `stores`: the stores that /readyz checks."""
    tag = "The process"
    each = an_object(dict.fromkeys(stores, LATENCY))
    return {
        "GET /healthz": Operation(
            summary="Whether the process is alive",
            tag=tag,
            answer={JSON: an_object({"status": just("alive")})},
            uses_stores=False,
        ),
        "GET /readyz": Operation(
            summary="Whether the stores answer, and the latency of each",
            tag=tag,
            answer={JSON: an_object({"status": just("ready"), "stores": each})},
            says={503: "A store does not answer. `stores`, next to `error`, says which."},
            error=UNREADY,
        ),
        "GET /metrics": Operation(
            summary="Metrics for Prometheus",
            tag=tag,
            scope=METRICS_SCOPE,
            answer={"text/plain": TEXT},
            uses_stores=False,
        ),
        "GET /openapi.json": Operation(
            summary="This description", tag=tag, answer={JSON: {"type": "object"}}, uses_stores=False
        ),
        "GET /": Operation(
            summary="What this server is",
            note="HTML for browsers.",
            tag=tag,
            answer={
                JSON: an_object({"name": TEXT, "about": TEXT, "links": map_of(TEXT)}),
                "text/html": TEXT,
            },
            uses_stores=False,
        ),
        "GET /docs/": Operation(
            summary="Redirect to /docs",
            tag=tag,
            status=308,
            answer={"text/html": TEXT},
            headers={"Location": {"required": True, "schema": TEXT}},
            uses_stores=False,
        ),
        "GET /docs": Operation(
            summary="This description as a page", tag=tag, answer={"text/html": TEXT}, uses_stores=False
        ),
        f"GET {PART}": Operation(
            summary="Files of the documentation page",
            tag=tag,
            answer={media: {} for media in CONTENT_TYPES.values() if media != "text/html"},
            uses_stores=False,
            examples={"name": "swagger-ui.css"},
        ),
    }
