"""/api/v1/sites: Plausible's Sites API: sites, their goals, and shared links.

A site's `domain` is its site_id here. Parameters may be in the query, in a form or in JSON. Plausible's teams, guests
and change of a domain do not exist. The facts are from https://plausible.io/docs/sites-api.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any, Literal, NotRequired, TypedDict

import structlog
from flask import Blueprint, abort, request, url_for
from flask.blueprints import BlueprintSetupState
from werkzeug.routing import PathConverter

from analytics.access.api_key import READ_SCOPE
from analytics.accounts.sharing import LONGEST_LINK_NAME, MOST_LINKS, SharedLink, SharingStore
from analytics.digest import digest_of
from analytics.json_schema import Json, an_object, any_of, just, text, whole
from analytics.queries.query_schema import LONGEST_SITE_ID, check_site_id
from analytics.schema_fields import is_encodable
from analytics.sites.schema import LONGEST_PAGE, MOST_GOALS, VISIT, InvalidSite, load_site
from analytics.sites.site import Goal, Site
from analytics.sites.store import SiteStore, Taken
from report_app.errors import OF_VERSION_1, PlausibleError
from report_app.plausible_v1.query_parameters import whole_number, wrong_parameter
from report_app.plausible_v1.stats import VERSION_1
from report_app.query_json_schema import SITE_ID
from web.auth import NO_SCOPE, Check, api_key_id, in_path, key_may
from web.openapi import JSON, Operation, described_by, parameter
from web.request_data import read_body

log = structlog.get_logger()

NO_SITE = "Site could not be found"
NO_GOAL = "Goal could not be found"
MOST_LISTED_SITES = 1000
_GOAL_TYPES = ("event", "page")
_SITE = "/<site:site_id>"


class SiteV1Json(TypedDict):
    domain: str
    timezone: str


class PageOfSitesJson(TypedDict):
    after: str | None
    before: None
    limit: int


class SitesV1Json(TypedDict):
    sites: list[SiteV1Json]
    meta: PageOfSitesJson


class GoalV1Json(TypedDict):
    id: str
    goal_type: Literal["event", "page"]
    display_name: str
    event_name: str | None
    page_path: str | None
    domain: NotRequired[str]


class GoalsV1Json(TypedDict):
    goals: list[GoalV1Json]
    meta: PageOfSitesJson


class LinkJson(TypedDict):
    name: str
    url: str


class DeletedJson(TypedDict):
    deleted: Literal[True]


def _described(summary: str, body: Json | None = None, note: str = "", **more: Any) -> Operation:
    return Operation(
        summary=summary, tag=VERSION_1, note=note, body={JSON: body} if body else {}, error=PlausibleError,
        says=OF_VERSION_1, **more,
    )  # fmt: skip


_OF_SITE: Json = {"site_id": SITE_ID}
_LIST = _described(
    "List the sites that have settings",
    parameters=[parameter("limit", whole(1, MOST_LISTED_SITES)), parameter("after", text(longest=LONGEST_SITE_ID))],
)
_ZONE = any_of(text(format="time-zone"), just(""))
_CREATE = _described("Create a site", an_object({"domain": SITE_ID}, {"timezone": _ZONE}))
_SHOW = _described("A site", variables=_OF_SITE)
_DELETE = _described("Delete the settings of a site. Its events stay.", variables=_OF_SITE)


def _goal_of(kind: str, **named: Json) -> Json:
    name = text(
        longest=len(VISIT) + LONGEST_PAGE, description="The default is the event_name, or `Visit` and the path."
    )
    return an_object(_OF_SITE | {"goal_type": just(kind), **named}, {"display_name": name})


_GOALS = _described("The goals of a site", parameters=[parameter("site_id", SITE_ID, required=True)])
_GOAL = _described(
    "Find or create a goal",
    any_of(_goal_of("event", event_name=text(1, 128)), _goal_of("page", page_path=text(1, LONGEST_PAGE))),
)
_DELETE_GOAL = _described("Delete a goal of a site", parameters=[parameter("site_id", SITE_ID, required=True)])
_LINK = _described(
    "Create a shared link",
    an_object(_OF_SITE | {"name": text(1, LONGEST_LINK_NAME, pattern=r"\S")}),
    "The key also needs the scope stats:read for the site."
    " The URL is in this answer only. A second request with the same name is a 400.",
)


class SiteConverter(PathConverter):
    """A site_id in a path. It does not match the paths of the other routes, so that their `Allow` is exact."""

    regex = r"(?!(goals(/[^/]+)?|shared-links)\Z)[^/].*?"


def _add_converter(state: BlueprintSetupState) -> None:
    state.app.url_map.converters["site"] = SiteConverter


def sites_v1_blueprint(sites: SiteStore, sharing: SharingStore, auth: Check) -> Blueprint:
    blueprint = Blueprint("sites_v1", __name__, url_prefix="/api/v1/sites")
    blueprint.before_request(auth)
    blueprint.record_once(_add_converter)

    @blueprint.get("")
    @described_by(_LIST)
    def list_sites() -> SitesV1Json:
        after, limit = _after(), whole_number("limit", _text("limit", "100"), MOST_LISTED_SITES)
        found = [_site(site) for site in sites.list(after, limit)]
        return {"sites": found, "meta": _meta(limit, found[-1]["domain"] if len(found) == limit else None)}

    @blueprint.post("")
    @described_by(_CREATE)
    def create() -> SiteV1Json:
        site_id = check_site_id(_needed("domain"), "#/domain")
        with _naming_settings():
            return _site(sites.edit(site_id, partial(_new_site, site_id, _text("timezone"))))

    @blueprint.get(_SITE, merge_slashes=False)
    @described_by(_SHOW)
    def show(site_id: str) -> SiteV1Json:
        return _site(sites.find(site_id) or abort(404, NO_SITE))

    @blueprint.delete(_SITE, merge_slashes=False)
    @described_by(_DELETE)
    def remove(site_id: str) -> DeletedJson:
        found = sites.find(site_id)
        return {"deleted": True} if found and sites.remove(found.site_id) else abort(404, NO_SITE)

    @blueprint.get("/goals")
    @described_by(_GOALS)
    def list_goals() -> GoalsV1Json:
        found = [_goal(goal) for goal in named().goals]
        return {"goals": found, "meta": _meta(len(found), None)}

    @blueprint.put("/goals")
    @described_by(_GOAL)
    def find_or_create_goal() -> GoalV1Json:
        site = named()
        with _naming_settings():
            wanted = _wanted_goal(site.site_id)
            goals = sites.edit(site.site_id, partial(_with_goal, wanted)).goals
        goal = next(goal for goal in goals if _counts_the_same(goal, wanted))
        return {**_goal(goal), "domain": site.site_id}

    @blueprint.delete("/goals/<goal_id>")
    @described_by(_DELETE_GOAL)
    def delete_goal(goal_id: str) -> DeletedJson:
        sites.edit(named().site_id, partial(_without_goal, goal_id))
        return {"deleted": True}

    @blueprint.put("/shared-links")
    @described_by(_LINK)
    def create_link() -> LinkJson:
        site, name = named(), _link_name()
        if not key_may(READ_SCOPE, site.site_id):
            abort(403, NO_SCOPE.format(scope=READ_SCOPE))
        _check_new(name, sharing.list(site.site_id))
        _, token = sharing.create(site.site_id, name, None, None)
        log.info("link_shared", site_id=site.site_id, by=api_key_id())
        return {"name": name, "url": url_for("accounts.shared_link", token=token, _external=True)}

    def named() -> Site:
        return sites.find(_needed("site_id")) or abort(404, NO_SITE)

    return blueprint


def in_parameters() -> Sequence[str]:
    """The sites that a request is about, read as the routes read them."""
    if request.endpoint == "sites_v1.list_sites":
        return ()
    name = "domain" if request.endpoint == "sites_v1.create" else "site_id"
    return in_path() or [each for each in (_text(name),) if each]


def _given() -> Mapping[str, object]:
    """The parameters of the request. Raises InvalidQuery and BadRequest."""
    body: object = request.form.to_dict() or read_body(b"{}")
    if not isinstance(body, dict):
        raise wrong_parameter("", "The body is not a JSON object.")
    return {**request.args.to_dict(), **body}


def _text(name: str, default: str = "") -> str:
    """A parameter of the request. Raises InvalidQuery and BadRequest."""
    value = _given().get(name, default)
    if not isinstance(value, str) or not is_encodable(value):
        raise wrong_parameter(name, "It is not a text.")
    return value


def _needed(name: str) -> str:
    return _text(name) or abort(400, f"Parameter `{name}` is required")


def _after() -> str:
    after = _text("after")
    if len(after) > LONGEST_SITE_ID:
        raise wrong_parameter("after", f"It has more than {LONGEST_SITE_ID} characters.")
    return after


def _meta(limit: int, after: str | None) -> PageOfSitesJson:
    return {"after": after, "before": None, "limit": limit}


def _site(site: Site) -> SiteV1Json:
    return {"domain": site.site_id, "timezone": site.zone.key}


def _new_site(site_id: str, timezone: str | None, there: Site | None) -> Site:
    if there:
        raise Taken("domain", "The site exists.")
    return load_site(site_id, {"timezone": timezone})


def _goal(goal: Goal) -> GoalV1Json:
    return {
        "id": _id_of(goal),
        "goal_type": "event" if goal.page is None else "page",
        "display_name": goal.name,
        "event_name": goal.event_type,
        "page_path": goal.page,
    }


def _id_of(goal: Goal) -> str:
    """A goal has no id here, and its name may hold slashes."""
    return digest_of(goal.name)[:16]


def _wanted_goal(site_id: str) -> Goal:
    """Raises InvalidSite."""
    kind = _needed("goal_type")
    if kind not in _GOAL_TYPES:
        raise wrong_parameter("goal_type", f"It is not one of {', '.join(_GOAL_TYPES)}.")
    field, value = ("event_type", _needed("event_name")) if kind == "event" else ("page", _needed("page_path"))
    (goal,) = load_site(site_id, {"goals": [{field: value, "name": _text("display_name")}]}).goals
    return goal


def _counts_the_same(goal: Goal, other: Goal) -> bool:
    return (goal.event_type, goal.page) == (other.event_type, other.page)


def _with_goal(wanted: Goal, site: Site | None) -> Site:
    site = site or abort(404, NO_SITE)
    if any(_counts_the_same(goal, wanted) for goal in site.goals):
        return site
    if any(goal.name == wanted.name for goal in site.goals):
        raise Taken("display_name", "Another goal has this name.")
    if len(site.goals) >= MOST_GOALS:
        raise InvalidSite({"goals": [f"A site has at most {MOST_GOALS} goals."]})
    return replace(site, goals=(*site.goals, wanted))


def _without_goal(goal_id: str, site: Site | None) -> Site:
    site = site or abort(404, NO_SITE)
    kept = tuple(goal for goal in site.goals if _id_of(goal) != goal_id)
    return replace(site, goals=kept) if len(kept) < len(site.goals) else abort(404, NO_GOAL)


def _link_name() -> str:
    name = _needed("name").strip()
    if not 0 < len(name) <= LONGEST_LINK_NAME:
        raise wrong_parameter("name", f"It does not have 1 to {LONGEST_LINK_NAME} characters.")
    return name


def _check_new(name: str, links: Sequence[SharedLink]) -> None:
    if any(link.name == name for link in links):
        raise wrong_parameter("name", "The site has a link with this name, and its URL cannot be shown again.")
    if len(links) >= MOST_LINKS:
        raise wrong_parameter("name", f"A site has at most {MOST_LINKS} links. Revoke one on the page of its sharing.")


_PARAMETERS = {"goals.0.event_type": "event_name", "goals.0.page": "page_path", "goals.0.name": "display_name"}


@contextmanager
def _naming_settings() -> Iterator[None]:
    """Converts errors about settings to those about the parameters that they are from."""
    try:
        yield
    except InvalidSite as error:
        field, messages = next(iter(error.fields.items()))
        raise wrong_parameter(_PARAMETERS.get(field, field), messages[0]) from None
    except Taken as error:
        raise wrong_parameter(error.field, str(error)) from None
