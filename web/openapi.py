"""Describes a route in OpenAPI 3.1, beside its view:

    _SHOW = Operation(summary="Settings of a site", tag="Sites", examples={"site_id": "shop"})

    @blueprint.get("/sites/<site_id>")
    @described_by(_SHOW)
    def show(site_id: str) -> SiteJson:

web/description.py collects the operations from the app. It derives some parts, which an Operation therefore omits: path
variables, the JSON of the answer (from the type that the view returns), the scope that a key needs (from the check of
the blueprint), and the errors for a missing key, a large body and an unreachable store.

tests/web/test_openapi.py lists the routes that are not described.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from analytics.json_schema import Json
from web.errors import Error

View = TypeVar("View", bound=Callable[..., Any])

JSON = "application/json"
NDJSON = "application/x-ndjson"
PLAIN = "text/plain"  # also sendBeacon's Content-Type
HTML = "text/html"

PROCESS = "The process"  # the tag of the routes of both apps


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """A route's input and answers. Schemas are JSON Schema, or marshmallow schemas (as classes).

    `answer`: by media type, the body of the answer with `status`, as JSON Schema or as a type (`schema_of` in
    analytics/json_schema.py). JSON is omitted if the view returns a TypedDict. If there is an `optional_scope`, the
    route needs no key, and a key with this scope allows more. `query`: a marshmallow schema. `parameters`: other
    parameters, in OpenAPI form. `variables`: more about the path's variables. `body`: by media type. `says`: the errors
    that do not follow from the rest, descriptions of errors, and other successes, which have no body. `error`: the
    TypedDict of the errors. `examples`: by parameter name, or by `body`. They work on any site.
    """

    summary: str
    tag: str
    note: str = ""
    answer: Mapping[str, object] = field(default_factory=dict)
    status: int = 200
    optional_scope: str = ""
    query: type | None = None
    parameters: Sequence[Json] = ()
    variables: Mapping[str, Json] = field(default_factory=dict)
    body: Mapping[str, object] = field(default_factory=dict)
    body_required: bool = True
    headers: Mapping[str, Json] = field(default_factory=dict)
    says: Mapping[int, str] = field(default_factory=dict)
    error: type = Error
    uses_stores: bool = True
    examples: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Api:
    """What an app's description says about the app as a whole. `components`: schemas, by the names that `ref` takes."""

    title: str
    about: str
    components: Mapping[str, Json] = field(default_factory=dict)


def described_by(operation: Operation) -> Callable[[View], View]:
    """A decorator that attaches the operation to a view. It stands below the decorator of the route."""

    def attach(view: View) -> View:
        view.operation = operation  # type: ignore[attr-defined]
        return view

    return attach


def operation_of(view: Callable[..., Any]) -> Operation | None:
    return getattr(view, "operation", None)


def parameter(name: str, schema: Json, about: str = "", required: bool = False, **more: object) -> Json:
    """A parameter of the query."""
    return {"name": name, "schema": schema, "required": required, **({"description": about} if about else {}), **more}
