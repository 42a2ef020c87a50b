"""A site's settings as JSON, in both directions. Only this module knows the JSON names of settings. Pure.

Callers must handle InvalidSite, which says what is wrong by field. A field of the first goal is called `goals.0.page`.
"""

import json
import re
from collections.abc import Callable, Sequence
from functools import cache
from ipaddress import IPv4Network, IPv6Network
from typing import Any, NotRequired, TypedDict, get_type_hints
from zoneinfo import ZoneInfo, available_timezones

from marshmallow import ValidationError, fields, post_dump, post_load, validates_schema
from marshmallow.validate import Length, OneOf, Range

from analytics.addresses import plain_network
from analytics.events.event_size import LARGEST, LEAST
from analytics.json_schema import Json, an_object, schema_of, text
from analytics.languages import translatable
from analytics.schema_fields import CURRENCY, OPTIONAL, Code, Flag, StrictSchema, Text, Whole, is_encodable, normalized
from analytics.sites.site import Goal, SavedFilter, Site
from analytics.urls import HOST, LONGEST_HOST, plain_host, plain_origin

MOST_GOALS = 100
_MOST_LISTED = 100  # domains, origins, networks, paths or parameters
LONGEST_PAGE = 2048
MOST_SAVED = 50  # filters of a site
LONGEST_SAVED = 4000  # characters of a filter's JSON
LONGEST_SAVED_NAME = 100  # characters
LARGEST_SAVED_ID = 2**31 - 1
_MOST_DAYS = 36_500
VISIT = "Visit "
_LABEL = "[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_HOST = rf"{_LABEL}([.]{_LABEL})*"
READ_ONLY = ("last_event_received",)  # answers contain it with the settings; it is ignored if it is sent back


class InvalidSite(Exception):
    """The caller's mistake. `fields` maps the name of each field to a list of sentences."""

    def __init__(self, fields: dict[str, list[str]]) -> None:
        super().__init__(f"The site's settings were not accepted: see {', '.join(fields)}.")
        self.fields = fields


class GoalSchema(StrictSchema):
    json_schema: Json = {
        "oneOf": [{"required": [kind], "properties": {kind: text(shortest=1)}} for kind in ("event_type", "page")]
    }

    name = Text(shortest=1, longest=len(VISIT) + LONGEST_PAGE, **OPTIONAL)
    event_type = Text(shortest=1, longest=128, **OPTIONAL)
    page = Text(shortest=1, longest=LONGEST_PAGE, **OPTIONAL)
    currency = Code(CURRENCY, "USD", **OPTIONAL)

    @validates_schema
    def is_of_one_kind(self, goal: dict[str, Any], **_: Any) -> None:
        if bool(goal.get("event_type")) == bool(goal.get("page")):
            raise ValidationError(translatable("A goal has either an event_type or a page."))

    @post_load
    def make(self, goal: dict[str, Any], **_: Any) -> Goal:
        name = goal.get("name") or goal.get("event_type") or f"{VISIT}{goal['page']}"
        return Goal(name, goal.get("event_type"), goal.get("page"), goal.get("currency"))

    @post_dump
    def leave_out_null(self, goal: dict[str, Any], **_: Any) -> dict[str, Any]:
        return {name: value for name, value in goal.items() if value is not None}


_ZONE = {"format": "time-zone", "description": "An IANA time zone name.", "examples": ["Europe/Berlin"]}


def is_zone(name: str) -> None:
    if name not in _zones():
        raise ValidationError(translatable("Not an IANA time zone such as Europe/Berlin."))


@cache
def _zones() -> set[str]:
    """The time zones, read from the file system, which takes 80 ms. `localtime` is omitted, because it is another zone
    on every machine.
    """
    return available_timezones() - {"localtime"}


_SAME_GOAL = translatable("Two goals have the name %(name)s.")
_SAME_FILTER = translatable("Two saved filters have the name %(name)s.")


def _named_apart(message: str) -> Callable[[Sequence[Goal | SavedFilter]], None]:
    def check(several: Sequence[Goal | SavedFilter]) -> None:
        names = [each.name for each in several]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValidationError([translatable(message, name=repr(name)) for name in twice])

    return check


def _have_own_ids(saved: Sequence[SavedFilter]) -> None:
    if len({each.id for each in saved}) < len(saved):
        raise ValidationError(translatable("Two saved filters have the same id."))


_NO_FILTERS = translatable(
    "Not a list of filters of a query with at most %(most)s characters of JSON.", most=LONGEST_SAVED
)


class FilterList(fields.Raw):
    """Filters of a query, which become JSON text. They are read as such when they are used."""

    json_schema: Json = {"type": "array", "minItems": 1, "examples": [[["is", "visit:country", ["DE"]]]]}

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        try:
            text = json.dumps(value, separators=(",", ":"), allow_nan=False)
        except (ValueError, RecursionError):
            raise ValidationError(_NO_FILTERS) from None
        if not (isinstance(value, list) and value) or len(text) > LONGEST_SAVED:
            raise ValidationError(_NO_FILTERS)
        return text

    def _serialize(self, value: Any, attr: str | None, obj: Any, **kwargs: Any) -> Any:
        return json.loads(value)


class SavedFilterSchema(StrictSchema):
    id = Whole(required=True, validate=Range(1, LARGEST_SAVED_ID))
    name = Text(required=True, shortest=1, longest=LONGEST_SAVED_NAME)
    filters = FilterList(required=True)

    @post_load
    def make(self, saved: dict[str, Any], **_: Any) -> SavedFilter:
        return SavedFilter(**saved)


class Domain(fields.String):
    """A host, in the form of `Site.domains`."""

    json_schema: Json = {"pattern": f"^{_HOST}$", "maxLength": LONGEST_HOST, "examples": ["shop.example"]}

    default_error_messages = {"domain": translatable("Not a domain such as shop.example.")}

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        text: str = super()._deserialize(value, attr, data, **kwargs)
        host = plain_host(text)
        if len(host) > LONGEST_HOST or not HOST.fullmatch(host) or re.search(r"[:/\\?#@]", text):
            raise self.make_error("domain")
        return host


class OriginField(fields.String):
    """An origin as browsers send it."""

    json_schema: Json = {
        "pattern": f"^https?://{_HOST}(:([1-9][0-9]{{0,3}}|[1-5][0-9]{{4}}))?/?$",
        "examples": ["https://shop.example"],
    }

    default_error_messages = {"origin": translatable("Not an origin such as https://shop.example.")}

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        origin = plain_origin(super()._deserialize(value, attr, data, **kwargs))
        if origin is None or origin.endswith(":0"):
            raise self.make_error("origin")
        return origin


class Network(fields.Field[IPv4Network | IPv6Network]):
    """An address or a network, such as 192.0.2.7 or 192.0.2.0/24."""

    json_schema: Json = {"type": "string", "format": "ip-network", "examples": ["192.0.2.7", "2001:db8::/32"]}

    default_error_messages = {
        "network": translatable("Not an address such as 192.0.2.7 or a network such as 192.0.2.0/24.")
    }

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> IPv4Network | IPv6Network:
        try:
            return plain_network(value if isinstance(value, str) else "")
        except ValueError:
            raise self.make_error("network") from None

    def _serialize(self, value: Any, attr: str | None, obj: Any, **kwargs: Any) -> str:
        """Return a single address without its prefix length, as people write it."""
        return str(value.network_address if value.num_addresses == 1 else value)


class PathRule(fields.String):
    """A path in which `:name` stands for one part, such as /user/:id."""

    json_schema: Json = {"type": "string", "pattern": "^/[^?]*$", "maxLength": LONGEST_PAGE, "examples": ["/user/:id"]}

    default_error_messages = {"rule": translatable("Not a path such as /user/:id.")}

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        rule: str = super()._deserialize(value, attr, data, **kwargs)
        if not rule.startswith("/") or "?" in rule or len(rule) > LONGEST_PAGE or not is_encodable(rule):
            raise self.make_error("rule")
        return rule


# The first parts of ingestion's own paths.
RESERVED_PATHS = frozenset({
    "api", "beacon", "docs", "event", "events", "favicon.ico", "healthz", "js", "metrics", "openapi.json", "opt-out",
    "pixel", "pixel.gif", "readyz", "robots.txt", "script.js", "v1",
})  # fmt: skip


class OwnPath(fields.String):
    """A path of ingestion that a site chooses, such as /kit/k.js."""

    json_schema: Json = {
        "type": "string",
        "pattern": r"^(/[A-Za-z0-9_-][A-Za-z0-9._-]*)+$",
        "maxLength": 100,
        "examples": ["/kit/k.js"],
    }

    default_error_messages = {
        "path": translatable("Not a path such as /kit/k.js, of letters, digits, dots, hyphens and underscores."),
        "reserved": translatable("Footfall itself uses paths that begin like this. Choose another one."),
    }

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        path: str = super()._deserialize(value, attr, data, **kwargs)
        if len(path) > self.json_schema["maxLength"] or not re.fullmatch(self.json_schema["pattern"], path):
            raise self.make_error("path")
        if path.split("/")[1] in RESERVED_PATHS:
            raise self.make_error("reserved")
        return path


def _several(each: fields.Field[Any]) -> fields.List[Any]:
    return fields.List(each, validate=Length(max=_MOST_LISTED), **OPTIONAL)


# The types of Site that the fields below do not load.
_KINDS: dict[str, Callable[[Any], object]] = {"zone": ZoneInfo, "write_key": str}


class SiteSchema(StrictSchema):
    """A site's settings: the JSON names and rules of the fields of Site. An unknown setting is an error, so that a
    misspelled one is not lost. null is the same as a missing setting. A missing setting has its default.
    """

    site_id = Text(required=True, shortest=1, longest=128)
    timezone = fields.String(attribute="zone", validate=is_zone, metadata=_ZONE, **OPTIONAL)
    goals = fields.List(
        fields.Nested(GoalSchema), validate=[Length(max=MOST_GOALS), _named_apart(_SAME_GOAL)], **OPTIONAL
    )
    shows_visitors = Flag(**OPTIONAL)
    domains = _several(Domain())
    allowed_origins = _several(OriginField())
    write_key = fields.UUID(**OPTIONAL)
    honours_dnt = Flag(**OPTIONAL)
    excluded_ips = _several(Network())
    excluded_paths = _several(Text(shortest=1, longest=LONGEST_PAGE))
    allowed_parameters = _several(Text(shortest=1, longest=128))
    backdate_days = Whole(validate=Range(0, _MOST_DAYS), **OPTIONAL)
    retention_days = Whole(validate=Range(1, _MOST_DAYS), **OPTIONAL)
    trailing_slash = fields.String(validate=OneOf(["keep", "drop"]), **OPTIONAL)
    path_case = fields.String(validate=OneOf(["keep", "lower"]), **OPTIONAL)
    path_rules = _several(PathRule())
    max_event_bytes = Whole(validate=Range(LEAST, LARGEST), **OPTIONAL)
    saved_filters = fields.List(
        fields.Nested(SavedFilterSchema),
        validate=[Length(max=MOST_SAVED), _named_apart(_SAME_FILTER), _have_own_ids],
        **OPTIONAL,
    )
    assigns_visits = Flag(**OPTIONAL)
    script_path = OwnPath(**OPTIONAL)
    endpoint_path = OwnPath(**OPTIONAL)

    @post_load
    def make(self, loaded: dict[str, Any], **_: Any) -> Site:
        given = {name: value for name, value in loaded.items() if value is not None}
        given |= {name: tuple(dict.fromkeys(value)) for name, value in given.items() if isinstance(value, list)}
        given |= {name: kind(given[name]) for name, kind in _KINDS.items() if name in given}
        return Site(**given)


class GoalJson(TypedDict):
    name: str
    event_type: NotRequired[str]
    page: NotRequired[str]
    currency: NotRequired[str]


class SavedFilterJson(TypedDict):
    id: int
    name: str
    filters: list[Any]


_site_schema = SiteSchema()
# The JSON Schema of dump_site: the names of SiteSchema and the types of Site, except those that are others in JSON.
_TYPES = get_type_hints(Site, include_extras=True) | {
    "timezone": str,
    "goals": list[GoalJson],
    "excluded_ips": list[str],
    "saved_filters": list[SavedFilterJson],
}
SITE_JSON = an_object({name: schema_of(_TYPES[name]) for name in _site_schema.fields})


def load_site(site_id: str, body: object) -> Site:
    """Return the site with all its settings. The body may repeat the site's id and contain read-only fields. Raises
    InvalidSite.
    """
    if not isinstance(body, dict):
        raise InvalidSite({"body": ["Not a JSON object."]})
    if body.get("site_id", site_id) != site_id:
        raise InvalidSite({"site_id": ["Not the site of this request. Send the same site_id, or leave it out."]})
    settings = {name: value for name, value in body.items() if name not in READ_ONLY}
    try:
        site: Site = _site_schema.load(settings | {"site_id": site_id})
    except ValidationError as error:
        raise InvalidSite(normalized(error)) from None
    return site


def load_changes(site_id: str, body: object) -> tuple[Site, set[str]]:
    """Return the site with some changed settings, and their names. null sets a setting to its default. Raises
    InvalidSite.
    """
    site = load_site(site_id, body)
    return site, set(body) - {"site_id", *READ_ONLY} if isinstance(body, dict) else set()


def dump_site(site: Site) -> dict[str, Any]:
    """Return the JSON that load_site turns into an equal site."""
    dumped: dict[str, Any] = _site_schema.dump(site)
    return dumped
