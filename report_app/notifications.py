"""/admin/notifications: the rules of notifications, and the log of what was sent. Needs the scope of the administrator.

The answer that creates a rule for a webhook is the only one that shows the secret of its signatures. As all answers of
the app, it has the header `Cache-Control: no-store`.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Annotated, NoReturn, TypedDict
from uuid import UUID

from flask import Blueprint, abort, request
from marshmallow import Schema, ValidationError, fields
from marshmallow.validate import OneOf, Range

from analytics.json_schema import Count
from analytics.notifications.message_writer import MessageWriter
from analytics.notifications.notification import NOTIFICATION_STATES, NotificationJson
from analytics.notifications.rule import Channel, Rule, RuleKind
from analytics.notifications.rule_schema import (
    RuleChanges,
    RuleJson,
    RuleSchema,
    changed_rule,
    dump_rule,
    load_rule,
)
from analytics.notifications.store import NotificationStore
from analytics.schema_fields import Text, normalized
from analytics.sites.store import UnknownSite
from report_app.site_lookup import SITE_EXAMPLE
from web.auth import Check
from web.errors import BadRequest
from web.openapi import JSON, Operation, described_by
from web.request_data import read, read_body


class RulesQuery(Schema):
    site_id = Text(longest=128)


class NotificationsPage(RulesQuery):
    state = fields.String(validate=OneOf(NOTIFICATION_STATES))
    limit = fields.Integer(validate=Range(1, 1000), load_default=100)
    after = Text(longest=200)


class RulesJson(TypedDict):
    rules: list[RuleJson]


class RuleShown(RuleJson):
    secret: Annotated[str | None, "The secret of a webhook's signatures. Only this response shows it."]


class RuleRemoved(TypedDict):
    success: bool
    removed: Count


class NotificationsJson(TypedDict):
    notifications: list[NotificationJson]
    after: str | None


_TAG = "Notifications"
_LOG = Operation(
    summary="List notifications, newest first: what was sent, what waits, and what failed and why",
    tag=_TAG,
    query=NotificationsPage,
)
_LIST = Operation(summary="List the rules of a site, or of all sites", tag=_TAG, query=RulesQuery)
_ADD = Operation(
    summary="Add a rule. Only this response shows the secret of a webhook.",
    tag=_TAG,
    note="`threshold` means percent for `spike` and `drop`, minutes for `silence` and `lag`, conversions for `goal`, "
    "and events for `dead_letters`. `weekly` and `monthly` have none. `language` is that of the "
    "notifications. An e-mail to the address of an account is in the language that the account has chosen.",
    body={JSON: RuleSchema},
    says={400: "`not_json`, `invalid_query` or `unknown_site`. `fields` says what is wrong."},
    examples={
        "body": {
            "site_id": SITE_EXAMPLE,
            "kind": RuleKind.SILENCE,
            "channel": Channel.WEBHOOK,
            "target": "https://example.com/hook",
            "threshold": 30,
        }
    },
)
_CHANGE = Operation(
    summary="Change the target, threshold, goal, period or language of a rule. What the rule has notified of stays.",
    tag=_TAG,
    note="A field that is not sent stays as it is. `threshold` null is the default of the kind.",
    body={JSON: RuleChanges},
    says={400: "`not_json` or `invalid_query`. `fields` says what is wrong.", 404: "There is no such rule."},
    examples={"body": {"threshold": 45}},
)
_REMOVE = Operation(summary="Remove a rule. Its notifications that wait are not sent.", tag=_TAG)
_TEST = Operation(
    summary="Send a test notification. The log says whether it was sent.",
    tag=_TAG,
    says={404: "There is no such rule."},
)


def notifications_blueprint(
    store: NotificationStore, writer: MessageWriter, auth: Check, clock: Callable[[], datetime]
) -> Blueprint:
    blueprint = Blueprint("notifications", __name__, url_prefix="/admin/notifications")
    blueprint.before_request(auth)

    @blueprint.get("")
    @described_by(_LOG)
    def show_log() -> NotificationsJson:
        query = read(NotificationsPage(), request.args)
        page = [each.as_json() for each in store.log(**query)]
        return {"notifications": page, "after": page[-1]["id"] if len(page) == query["limit"] else None}

    @blueprint.get("/rules")
    @described_by(_LIST)
    def list_rules() -> RulesJson:
        site_id = read(RulesQuery(), request.args).get("site_id")
        return {"rules": [dump_rule(rule) for rule in store.rules(site_id)]}

    @blueprint.post("/rules")
    @described_by(_ADD)
    def add_rule() -> RuleShown:
        with _naming_fields():
            rule = store.add(load_rule(read_body(), clock()))
        return {**dump_rule(rule), "secret": rule.secret}

    @blueprint.patch("/rules/<uuid:rule_id>")
    @described_by(_CHANGE)
    def change_rule(rule_id: UUID) -> RuleJson:
        with _naming_fields():
            rule = changed_rule(_rule(rule_id), read_body())
            store.change(rule) or _no_rule(rule_id)
        return dump_rule(rule)

    @blueprint.delete("/rules/<uuid:rule_id>")
    @described_by(_REMOVE)
    def remove_rule(rule_id: UUID) -> RuleRemoved:
        return {"success": True, "removed": int(store.remove(rule_id))}

    @blueprint.post("/rules/<uuid:rule_id>/test")
    @described_by(_TEST)
    def test_rule(rule_id: UUID) -> NotificationJson:
        """A worker sends it within a few seconds."""
        rule = _rule(rule_id)
        return store.add_test(rule, writer.write_test(rule), clock()).as_json()

    def _rule(rule_id: UUID) -> Rule:
        return store.rule(rule_id) or _no_rule(rule_id)

    return blueprint


def _no_rule(rule_id: UUID) -> NoReturn:
    abort(404, f"There is no rule {rule_id}. GET /admin/notifications/rules lists them.")


@contextmanager
def _naming_fields() -> Iterator[None]:
    """Raises BadRequest, which names the fields of a rule that are wrong."""
    try:
        yield
    except ValidationError as error:
        names = normalized(error)
        raise BadRequest("invalid_query", f"The rule is not valid: see {', '.join(names)}.", names) from None
    except UnknownSite as error:
        raise BadRequest("unknown_site", error.message, {"site_id": [error.message]}) from None
