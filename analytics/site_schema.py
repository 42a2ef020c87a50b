"""A site's settings as JSON, in and out. JSON names of settings stand here and nowhere else.

In: whose they are, and what JSON gave. Out: a `Site`, or `InvalidSite` with what is wrong, field by field; a field of
the first goal is called `goals.0.page`.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

from marshmallow import Schema, ValidationError, fields, post_load, validates_schema
from marshmallow.validate import Length

from analytics.event_schema import CURRENCY, OPTIONAL, Code, Flag, Text
from analytics.site import Goal, Site

MOST_GOALS = 100
LONGEST_PAGE = 2048
VISIT = "Visit "


class InvalidSite(Exception):
    """The caller's mistake: `fields` maps each field's name to a list of sentences."""

    def __init__(self, fields: dict[str, list[str]]) -> None:
        super().__init__(f"The site's settings were not accepted: see {', '.join(fields)}.")
        self.fields = fields


class GoalSchema(Schema):
    name = Text(shortest=1, longest=len(VISIT) + LONGEST_PAGE, **OPTIONAL)
    event_type = Text(shortest=1, longest=128, **OPTIONAL)
    page = Text(shortest=1, longest=LONGEST_PAGE, **OPTIONAL)
    currency = Code(CURRENCY, "USD", **OPTIONAL)

    @validates_schema
    def is_of_one_kind(self, goal: dict[str, Any], **_: Any) -> None:
        if bool(goal.get("event_type")) == bool(goal.get("page")):
            raise ValidationError("A goal has either an event_type or a page.")

    @post_load
    def make(self, goal: dict[str, Any], **_: Any) -> Goal:
        name = goal.get("name") or goal.get("event_type") or f"{VISIT}{goal['page']}"
        return Goal(name, goal.get("event_type"), goal.get("page"), goal.get("currency"))


def is_zone(name: str) -> None:
    if name not in _zones():
        raise ValidationError("Not an IANA time zone such as Europe/Berlin.")


@cache
def _zones() -> set[str]:
    """Found by a walk through the file system, 80 ms. `localtime` is another zone on every machine."""
    return available_timezones() - {"localtime"}


def _are_named_apart(goals: Sequence[Goal]) -> None:
    names = [goal.name for goal in goals]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValidationError([f"Two goals are called {name!r}." for name in twice])


class SiteSchema(Schema):
    """What is not known is an error: a setting with a slip of the pen must not be lost. null is the same as left out,
    and what is left out is as where nothing is set.
    """

    site_id = Text(required=True, shortest=1, longest=128)
    timezone = fields.String(validate=is_zone, **OPTIONAL)
    goals = fields.List(fields.Nested(GoalSchema), validate=[Length(max=MOST_GOALS), _are_named_apart], **OPTIONAL)
    shows_visitors = Flag(**OPTIONAL)


_site_schema = SiteSchema()


def load_site(site_id: str, body: object) -> Site:
    """All settings of this site; the body may say again whose they are. Raises InvalidSite."""
    if not isinstance(body, dict):
        raise InvalidSite({"body": ["Not a JSON object."]})
    if body.get("site_id", site_id) != site_id:
        raise InvalidSite({"site_id": ["Not the site whose settings these are to be."]})
    try:
        loaded = _site_schema.load(body | {"site_id": site_id})
    except ValidationError as error:
        raise InvalidSite(dict(_by_field(error.messages_dict))) from None
    return Site(
        site_id,
        ZoneInfo(loaded.get("timezone") or "UTC"),
        tuple(loaded.get("goals") or ()),
        bool(loaded.get("shows_visitors")),
    )


def dump_site(site: Site) -> dict[str, Any]:
    """What load_site turns into an equal site."""
    return {
        "site_id": site.site_id,
        "timezone": site.zone.key,
        "goals": [_dump_goal(goal) for goal in site.goals],
        "shows_visitors": site.shows_visitors,
    }


def _dump_goal(goal: Goal) -> dict[str, str]:
    dumped = {"name": goal.name, "event_type": goal.event_type, "page": goal.page, "currency": goal.currency}
    return {name: value for name, value in dumped.items() if value is not None}


def _by_field(messages: Mapping[Any, Any], within: str = "") -> Iterator[tuple[str, list[str]]]:
    for key, value in messages.items():
        name = within if key == "_schema" else f"{within}.{key}" if within else str(key)
        if isinstance(value, dict):
            yield from _by_field(value, name)
        else:
            yield name, value
