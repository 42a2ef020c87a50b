"""Hooks that extend Schemathesis by rules that the OpenAPI descriptions cannot express.

An example is that of two days the first is not after the last. The descriptions state such rules as text. Requests that
are meant to be valid are changed here to follow the rules. Requests that are meant to be invalid stay as they are.
"""

import os
import re
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4
from zoneinfo import available_timezones

import schemathesis
from hypothesis import strategies as st

from analytics.access.api_key import ADMIN_SCOPE
from analytics.notifications.rule import THRESHOLDS, Channel, RuleKind
from analytics.queries.query import OF_GOALS, OF_PAGES, SHARES
from analytics.queries.query_schema import MOST_CONDITIONS, MOST_DEPTH
from report_app.site_lookup import SITE_EXAMPLE
from tests.support.described_client import close

ZONES = sorted(available_timezones() - {"localtime"})

schemathesis.openapi.format("re2", st.text("abc.*+?()[]/", max_size=20).map(re.escape))
schemathesis.openapi.format("time-zone", st.sampled_from(ZONES))
schemathesis.openapi.format("ip-network", st.ip_addresses().map(str))


@schemathesis.hook
def before_load_schema(context: schemathesis.HookContext, raw_schema: dict[str, Any]) -> None:
    """Makes undescribed fields of answers an error. Clients must accept new fields, but tests must not.

    If FUZZ is "short", only one of four routes is tested with all filters, because the same code reads them.
    """
    if os.environ.get("FUZZ") == "short":
        for name in ("Funnel", "Retention", "Journeys", "Step"):
            for field in ("filters", "filter"):
                raw_schema["components"]["schemas"].get(name, {}).get("properties", {}).pop(field, None)
    for path in raw_schema["paths"].values():
        for operation in path.values():
            for response in operation["responses"].values():
                for media in response.get("content", {}).values():
                    close(media.get("schema", {}))
    for name, schema in raw_schema["components"]["schemas"].items():
        if name.endswith("Error"):
            close(schema)


@schemathesis.hook
def map_case(context: schemathesis.HookContext, case: schemathesis.Case) -> schemathesis.Case:
    if case.meta and case.meta.generation.mode.is_positive and (keep := RULES.get((case.method, case.path))):
        keep(case)
    return case


@schemathesis.hook
def before_call(context: schemathesis.HookContext, case: schemathesis.Case, kwargs: dict[str, Any]) -> None:
    """Applies the rules again, because answers to earlier requests may have added values after map_case."""
    if (case.method, case.path) in AGAIN:
        map_case(context, case)


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


# A dead letter that exists


def letter(case: schemathesis.Case) -> None:
    case.path_parameters = {"letter_id": os.environ["LETTER"]}


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


HOOK = "https://example.com/hook"


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
    body["target"] = HOOK


def change_of_rule(case: schemathesis.Case) -> None:
    """The rule may be of any kind, which decides about its thresholds."""
    for name in ("goal", "period", "threshold"):
        case.body.pop(name, None)
    if "target" in case.body:
        case.body["target"] = HOOK


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


def removed_site(case: schemathesis.Case) -> None:
    """Other requests need the site of the examples."""
    if case.path_parameters.get("site_id") == SITE_EXAMPLE:
        case.path_parameters["site_id"] = uuid4().hex


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
    ("DELETE", "/api/v1/sites/{site_id}"): removed_site,
    ("DELETE", "/admin/sites/{site_id}"): removed_site,
    ("PUT", "/api/v1/sites/goals"): new_goal,
    ("PUT", "/api/v1/sites/shared-links"): new_link,
    ("GET", "/export/events"): export,
    ("POST", "/admin/keys"): api_key,
    ("GET", "/admin/dead-letters/{letter_id}"): letter,
    ("POST", "/admin/dead-letters/{letter_id}/replay"): letter,
    ("POST", "/admin/notifications/rules"): notification_rule,
    ("PATCH", "/admin/notifications/rules/{rule_id}"): change_of_rule,
    ("PUT", "/admin/sites/{site_id}"): site,
    ("PATCH", "/admin/sites/{site_id}"): site,
}
# Rules that are applied once more before a request is sent.
AGAIN = [
    ("PUT", "/admin/sites/{site_id}"), ("PATCH", "/admin/sites/{site_id}"),
    ("DELETE", "/admin/sites/{site_id}"), ("DELETE", "/api/v1/sites/{site_id}"), ("PUT", "/api/v1/sites/goals"),
]  # fmt: skip
