"""Hooks that extend Schemathesis by rules that the OpenAPI descriptions cannot express.

An example is that of two days the first is not after the last. The descriptions state such rules as text. Requests that
are meant to be valid are changed here to follow the rules. Requests that are meant to be invalid stay as they are.
"""

import json
import os
import re
from collections.abc import Callable, Iterator
from itertools import cycle
from typing import Any
from uuid import uuid4
from zoneinfo import available_timezones

import httpx
import schemathesis
from hypothesis import strategies as st
from schemathesis.core.parameters import ParameterLocation

from analytics.access.api_key import ADMIN_SCOPE
from analytics.notifications.rule import THRESHOLDS, Channel, RuleKind
from analytics.queries.query import OF_GOALS, OF_PAGES, SHARES
from analytics.queries.query_schema import MOST_CONDITIONS, MOST_DEPTH
from report_app.site_lookup import SITE_EXAMPLE
from tests.support.described_client import close
from tests.support.fuzzing import BEARER, KEY, RULE

ZONES = sorted(available_timezones() - {"localtime"})

schemathesis.openapi.format("re2", st.text("abc.*+?()[]/", max_size=20).map(re.escape))
schemathesis.openapi.format("time-zone", st.sampled_from(ZONES))
schemathesis.openapi.format("ip-network", st.ip_addresses().map(str))


@schemathesis.hook
def before_load_schema(context: schemathesis.HookContext, raw_schema: dict[str, Any]) -> None:
    """Makes undescribed fields of answers an error. Clients must accept new fields, but tests must not.

    If FUZZ is "short", what several operations read with the same code is tested in full with one of them.
    """
    if os.environ.get("FUZZ") == "short":
        shorten(raw_schema["paths"], raw_schema["components"]["schemas"])
    for path in raw_schema["paths"].values():
        for operation in path.values():
            for response in operation["responses"].values():
                for media in response.get("content", {}).values():
                    close(media.get("schema", {}))
    for name, schema in raw_schema["components"]["schemas"].items():
        if name.endswith("Error"):
            close(schema)


def shorten(paths: dict[str, Any], schemas: dict[str, Any]) -> None:
    """Leaves the filters of queries to /api/v2/query, /stats/visitor and /export/events, and the fields of events to
    /event with JSON.
    """
    for name in ("Funnel", "Retention", "Journeys", "Step"):
        for field in ("filters", "filter"):
            schemas.get(name, {}).get("properties", {}).pop(field, None)
    for path in ("/stats/timeseries", "/stats/breakdown"):
        if operation := paths.get(path, {}).get("get"):
            operation["parameters"] = [each for each in operation["parameters"] if each["name"] != "filters"]
    for path, kind in (("/event", "text/plain"), ("/admin/dead-letters/{letter_id}/replay", "application/json")):
        if operation := paths.get(path, {}).get("post"):
            media = operation["requestBody"]["content"][kind]
            event = schemas[media["schema"]["$ref"].rpartition("/")[2]]
            fields = {name: event["properties"][name] for name in ("site_id", "event_type", "url", "timestamp")}
            media["schema"] = event | {"properties": fields}


@schemathesis.hook
def map_case(context: schemathesis.HookContext, case: schemathesis.Case) -> schemathesis.Case:
    if case.meta and case.meta.generation.mode.is_positive and (keep := RULES.get((case.method, case.path))):
        keep(case)
    return case


@schemathesis.hook
def before_call(context: schemathesis.HookContext, case: schemathesis.Case, kwargs: dict[str, Any]) -> None:
    """Applies the rules again, because answers to earlier requests may have added values after map_case. Then names an
    object that exists.
    """
    if (case.method, case.path) in AGAIN:
        map_case(context, case)
    if (find := OBJECTS.get((case.method, case.path))) and may_exist(case):
        find(case)


@schemathesis.hook
def after_call(context: schemathesis.HookContext, case: schemathesis.Case, response: schemathesis.Response) -> None:
    """Writes down what was answered, for answers() in fuzzing.py."""
    with open("answers", "a", encoding="utf-8") as file:
        print(json.dumps([case.method, case.path, response.status_code]), file=file)


@schemathesis.hook
def before_add_examples(context: schemathesis.HookContext, examples: list[schemathesis.Case]) -> None:
    for case in examples:
        if keep := RULES.get((case.method, case.path)):
            keep(case)


# Rules of POST /api/v2/...


def query(case: schemathesis.Case) -> None:
    body = case.body
    keep_filters(body)
    dimensions = body.get("dimensions", [])
    of_time = [name for name in dimensions if name.startswith("time")]
    if of_time[1:]:
        dimensions = body["dimensions"] = [name for name in dimensions if name not in of_time[1:]]
    body["metrics"] = [name for name in body["metrics"] if may_be_asked(name, dimensions, body)] or ["visitors"]
    if "order_by" in body:
        known = {*body["metrics"], *dimensions, *(["time"] if of_time else [])}
        body["order_by"] = [entry for entry in body["order_by"] if entry[0] in known]
    include = body.get("include", {})
    if not of_time:
        include.pop("time_labels", None)
    comparisons = include.get("comparisons", {})
    if "date_range" in comparisons:
        comparisons["date_range"] = ["2026-10-01", "2026-10-31"]
    if comparisons or include.get("time_labels"):
        body["date_range"] = "30d"


def may_be_asked(metric: str, dimensions: list[str], body: dict[str, Any]) -> bool:
    if metric in OF_PAGES:
        return "event:page" in dimensions
    if metric in OF_GOALS:
        return "event:goal" in dimensions and not body.get("filters")
    return metric not in SHARES or bool(dimensions)


def funnel(case: schemathesis.Case) -> None:
    keep_filters(case.body)
    for step in case.body["steps"]:
        if "filter" in step and depth(step["filter"]) > MOST_DEPTH:
            step["filter"] = ["is", "event:page", ["/"]]
        if "filter" in step:
            keep_filter(step["filter"])
        if "goal" in step:
            step["event"] = step.pop("goal")[:128]


def retention(case: schemathesis.Case) -> None:
    """At most 400 cohorts are allowed."""
    keep_filters(case.body)
    case.body["date_range"] = "7d"


def journeys(case: schemathesis.Case) -> None:
    keep_filters(case.body)


def keep_filters(body: dict[str, Any]) -> None:
    body["site_id"] = of_one_zone(body["site_id"])
    body["date_range"] = in_order(body["date_range"])
    filters = body.get("filters", [])
    filters[:] = [each for each in filters if depth(each) <= MOST_DEPTH]
    for each in filters:
        keep_filter(each)
    while len(list(conditions(filters))) > MOST_CONDITIONS:
        filters.pop()


def of_one_zone(site_ids: Any) -> Any:
    """Several sites must have the same time zone. Sites without settings have it. Two are enough: each takes time."""
    return [uuid4().hex for _ in site_ids[:2]] if isinstance(site_ids, list) and site_ids[1:] else site_ids


def depth(one: Any) -> int:
    match one:
        case ["and" | "or", [*several]]:
            return 1 + max(map(depth, several))
        case ["not" | "has_done" | "has_not_done", inner]:
            return 1 + depth(inner)
    return 1


def keep_filter(one: Any) -> None:
    """Replaces `is` for goals: `is` needs a goal that is set for the site, and goals change here.

    `contains` needs none.
    """
    for condition in conditions([one]):
        if condition[1] == "event:goal":
            condition[0] = "contains"


def conditions(filters: list[Any]) -> Iterator[list[Any]]:
    for each in filters:
        match each:
            case ["and" | "or", list(several)]:
                yield from conditions(several)
            case ["not" | "has_done" | "has_not_done", one]:
                yield from conditions([one])
            case list():
                yield each


def in_order(date_range: Any) -> Any:
    return sorted(date_range) if isinstance(date_range, list) else date_range


# Rules of GET /stats/...


def parameters(case: schemathesis.Case) -> None:
    """Either a period, or from and to in order."""
    asked = case.query
    asked["site_id"] = of_one_zone(asked["site_id"])
    if "period" in asked or not {"from", "to"} <= set(asked):
        asked.pop("from", None)
        asked.pop("to", None)
    else:
        asked["from"], asked["to"] = sorted([asked["from"], asked["to"]])
    filters = asked.get("filters", {})
    for name in ("goal", "goal!"):
        if name in filters:
            del filters[name]
    asked.get("filters", {}).pop("goal", None)  # this must be a goal that is set for the site
    dimensions = listed(asked.get("by"))
    if "metrics" in asked:
        kept = [name for name in listed(asked["metrics"]) if may_be_in_url(name, dimensions)] or ["visitors"]
        asked["metrics"] = ",".join(kept) if isinstance(asked["metrics"], str) else kept


def listed(several: str | list[str] | None) -> list[str]:
    """The values of a parameter. In the phase "coverage" they already have the form for a URL."""
    return [one for one in several.split(",") if one] if isinstance(several, str) else several or []


def may_be_in_url(metric: str, dimensions: list[str]) -> bool:
    if metric in (*OF_PAGES, *OF_GOALS):
        return metric in OF_PAGES and "page" in dimensions
    return metric not in SHARES or bool(dimensions)


def export(case: schemathesis.Case) -> None:
    """The filters of an export are JSON, which the schema of a text cannot express."""
    if "filters" in case.query:
        case.query.pop("filters")
        parameters(case)
        case.query["filters"] = '[["is", "visit:country", ["DE"]]]'
    else:
        parameters(case)


def timeseries(case: schemathesis.Case) -> None:
    """At most 10,000 buckets are allowed."""
    parameters(case)
    for name in ("from", "to"):
        case.query.pop(name, None)
    case.query["period"] = "7d"


def ledger(case: schemathesis.Case) -> None:
    """At most 400 days are allowed, from the first to the last."""
    if "from" in case.query:
        case.query["to"] = case.query["from"]


def purge(case: schemathesis.Case) -> None:
    """Other requests need the dead letters."""
    case.body["site_id"] = uuid4().hex


# Objects that exist. Those that a request removes are created for it.


def may_exist(case: schemathesis.Case) -> bool:
    """Whether the request is wrong, if it is, by something else than the name of the object."""
    components = case.meta.components if case.meta else {}
    return all(
        components[place].mode.is_positive
        for place in (ParameterLocation.PATH, ParameterLocation.QUERY)
        if place in components
    )


def created(method: str, path: str, body: dict[str, Any]) -> dict[str, Any]:
    """Creates an object, and returns the answer."""
    answer = httpx.request(method, os.environ["REPORT"] + path, headers=BEARER, json=body, timeout=30)
    return dict(answer.raise_for_status().json())


def letter(case: schemathesis.Case) -> None:
    case.path_parameters = {"letter_id": os.environ["LETTERS"].split(",")[0]}


def next_letter(case: schemathesis.Case) -> None:
    """A letter that is replayed with a valid event is there no more."""
    case.path_parameters = {"letter_id": next(LETTERS)}


def rule(case: schemathesis.Case) -> None:
    case.path_parameters = {"rule_id": os.environ["RULE_ID"]}


def new_rule(case: schemathesis.Case) -> None:
    case.path_parameters = {"rule_id": created("POST", "/admin/notifications/rules", RULE)["id"]}


def new_key(case: schemathesis.Case) -> None:
    case.path_parameters = {"key_id": created("POST", "/admin/keys", KEY)["id"]}


def known_site(case: schemathesis.Case) -> None:
    case.path_parameters = {"site_id": SITE_EXAMPLE}


def new_site_to_remove(case: schemathesis.Case) -> None:
    case.path_parameters = {"site_id": created("POST", "/api/v1/sites", {"domain": uuid4().hex})["domain"]}


def new_goal_to_remove(case: schemathesis.Case) -> None:
    site_id = created("POST", "/api/v1/sites", {"domain": uuid4().hex})["domain"]
    goal = created("PUT", "/api/v1/sites/goals", {"site_id": site_id, "goal_type": "event", "event_name": "signup"})
    case.path_parameters, case.query = {"goal_id": goal["id"]}, {"site_id": site_id}


LETTERS = cycle(os.environ.get("LETTERS", "").split(",")[1:])
OBJECTS: dict[tuple[str, str], Callable[[schemathesis.Case], None]] = {
    ("GET", "/admin/dead-letters/{letter_id}"): letter,
    ("POST", "/admin/dead-letters/{letter_id}/replay"): next_letter,
    ("PATCH", "/admin/notifications/rules/{rule_id}"): rule,
    ("POST", "/admin/notifications/rules/{rule_id}/test"): rule,
    ("DELETE", "/admin/notifications/rules/{rule_id}"): new_rule,
    ("POST", "/admin/keys/{key_id}/rotate"): new_key,
    ("POST", "/admin/keys/{key_id}/revoke"): new_key,
    ("POST", "/admin/write-keys/{site_id}"): known_site,
    ("DELETE", "/admin/sites/{site_id}"): new_site_to_remove,
    ("GET", "/api/v1/sites/{site_id}"): known_site,
    ("DELETE", "/api/v1/sites/{site_id}"): new_site_to_remove,
    ("DELETE", "/api/v1/sites/goals/{goal_id}"): new_goal_to_remove,
}


# Rules of PUT /admin/sites/...


def site(case: schemathesis.Case) -> None:
    """If the body has a site_id, it must be that of the path. Names of goals and of saved filters, and ids of saved
    filters, are unique within a site. Domains, write keys and paths of their own are unique among sites, and no path
    begins as one of Footfall's.
    """
    for name in ("site_id", "write_key"):
        case.body.pop(name, None)
    for name in ("script_path", "endpoint_path"):
        if case.body.get(name):
            case.body[name] = f"/{uuid4().hex}"
    if case.body.get("domains"):
        case.body["domains"] = [f"{uuid4().hex}.example"]
    for number, goal in enumerate(case.body.get("goals") or []):
        goal["name"] = str(number)
    for number, saved in enumerate(case.body.get("saved_filters") or [], 1):
        saved |= {"id": number, "name": str(number)}


# Rules of POST /admin/keys


def api_key(case: schemathesis.Case) -> None:
    """The end of a key is in the future and given once.

    A key with the administrator's scope has no list of sites. All sites of a key exist.
    """
    case.body.pop("expires_at", None)
    if case.body.get("sites"):
        case.body["sites"] = [SITE_EXAMPLE]
    if ADMIN_SCOPE in case.body["scopes"]:
        case.body.pop("sites", None)


# Rules of POST /admin/notifications/rules


def notification_rule(case: schemathesis.Case) -> None:
    """The site exists. Each kind of rule has its own thresholds, and each channel its own targets.

    E-mail is not set up. A rule of the kind goal needs a goal that is set for the site, and goals change here.
    """
    body = case.body
    body["site_id"] = SITE_EXAMPLE
    if body["kind"] == RuleKind.GOAL:
        body["kind"] = RuleKind.SILENCE
    for name in ("goal", "period", "threshold"):
        body.pop(name, None)
    if threshold := THRESHOLDS.get(RuleKind(body["kind"])):
        body["threshold"] = threshold.most
    if body["channel"] == Channel.EMAIL:
        body["channel"] = Channel.SLACK
    body["target"] = RULE["target"]


def change_of_rule(case: schemathesis.Case) -> None:
    """The rule is one of the kind silence."""
    if "threshold" in case.body:
        case.body["threshold"] = THRESHOLDS[RuleKind.SILENCE].most
    for name in ("goal", "period"):
        case.body.pop(name, None)
    if "target" in case.body:
        case.body["target"] = RULE["target"]


# Rules of Plausible's API of version 1


def version_1(case: schemathesis.Case) -> None:
    """With the period custom, `date` is two days. Filters have a form that a schema of a text cannot express."""
    asked = case.query
    is_custom = asked.get("period") == "custom"
    if is_custom or "date" in asked:
        asked["date"] = "2026-10-01,2026-10-31" if is_custom else "2026-10-31"
    if "filters" in asked:
        asked["filters"] = "visit:browser==Firefox|Safari;event:page!=/blog/**"
    if "metrics" in asked:
        by = [asked["property"]] if "property" in asked else []
        kept = [name for name in listed(asked["metrics"]) if may_be_asked(name, by, asked)] or ["visitors"]
        asked["metrics"] = ",".join(kept) if isinstance(asked["metrics"], str) else kept


def new_site(case: schemathesis.Case) -> None:
    """The site does not exist."""
    case.body["domain"] = uuid4().hex


def new_goal(case: schemathesis.Case) -> None:
    """The name of a goal is unique within a site."""
    case.body["display_name"] = uuid4().hex


def new_link(case: schemathesis.Case) -> None:
    """The name of a link is unique within a site."""
    case.body["name"] = uuid4().hex


RULES: dict[tuple[str, str], Callable[[schemathesis.Case], None]] = {
    ("POST", "/api/v2/query"): query,
    ("POST", "/api/v2/funnel"): funnel,
    ("POST", "/api/v2/retention"): retention,
    ("POST", "/api/v2/journeys"): journeys,
    ("GET", "/stats/timeseries"): timeseries,
    ("GET", "/stats/breakdown"): parameters,
    ("GET", "/stats/visitor"): parameters,
    ("GET", "/stats/ledger"): ledger,
    ("GET", "/api/v1/stats/aggregate"): version_1,
    ("GET", "/api/v1/stats/timeseries"): version_1,
    ("GET", "/api/v1/stats/breakdown"): version_1,
    ("POST", "/api/v1/sites"): new_site,
    ("PUT", "/api/v1/sites/goals"): new_goal,
    ("PUT", "/api/v1/sites/shared-links"): new_link,
    ("GET", "/export/events"): export,
    ("POST", "/admin/keys"): api_key,
    ("POST", "/admin/dead-letters/purge"): purge,
    ("POST", "/admin/notifications/rules"): notification_rule,
    ("PATCH", "/admin/notifications/rules/{rule_id}"): change_of_rule,
    ("PUT", "/admin/sites/{site_id}"): site,
    ("PATCH", "/admin/sites/{site_id}"): site,
}
# Rules that are applied once more before a request is sent.
AGAIN = [
    ("PUT", "/admin/sites/{site_id}"), ("PATCH", "/admin/sites/{site_id}"),
    ("PUT", "/api/v1/sites/goals"),
]  # fmt: skip
