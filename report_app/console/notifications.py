"""/ops/notifications: lists, adds, changes, tests and removes the rules of notifications, and shows the log.

The secret of a webhook is shown once, in the answer that made its rule.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast, get_args
from uuid import UUID

import structlog
from flask import Response, abort, request
from marshmallow import ValidationError
from werkzeug.wrappers import Response as BaseResponse

from analytics.languages import LANGUAGES, format_number, gettext, ngettext, spoken_language, translatable
from analytics.notifications.message_writer import MessageWriter
from analytics.notifications.notification import NOTIFICATION_STATES, NotificationState
from analytics.notifications.rule import THRESHOLDS, Channel, Rule, RuleKind, RulePeriod
from analytics.notifications.rule_schema import CHANGEABLE, changed_rule, load_rule
from analytics.notifications.store import NotificationStore
from analytics.schema_fields import normalized
from analytics.sites.store import UnknownSite
from report_app.console.access import owner
from report_app.console.console_page import FieldErrors, by_field, console_page, done
from report_app.page_blueprint import PageBlueprint
from report_app.texts import lazy

log = structlog.get_logger()

LOG_ON_A_PAGE = 50
RULE_GONE = translatable("There is no such rule any more.")
TEST_WAITS = translatable(
    "A worker sends the test within a few seconds. Reload the page: the log says whether it was sent."
)


@dataclass(frozen=True, slots=True)
class KindDescription:
    """What the page says about a kind of rule. `unit`: that of the threshold, in the plural."""

    notifies: str
    unit: str = ""


KIND_DESCRIPTIONS = {
    RuleKind.SPIKE: KindDescription(lazy("if a site has more events than usual"), lazy("percent")),
    RuleKind.DROP: KindDescription(lazy("if a site has fewer events than usual"), lazy("percent")),
    RuleKind.SILENCE: KindDescription(lazy("if a site sends no events"), lazy("minutes")),
    RuleKind.GOAL: KindDescription(lazy("if a goal has enough conversions"), lazy("conversions")),
    RuleKind.DEAD_LETTERS: KindDescription(lazy("if events of a day failed permanently"), lazy("events")),
    RuleKind.LAG: KindDescription(lazy("if events wait too long in the journal"), lazy("minutes")),
    RuleKind.WEEKLY: KindDescription(lazy("each week, with a summary")),
    RuleKind.MONTHLY: KindDescription(lazy("each month, with a summary")),
}


def add_notifications(
    blueprint: PageBlueprint, store: NotificationStore, writer: MessageWriter, clock: Callable[[], datetime]
) -> None:
    @blueprint.get("/ops/notifications")
    def notifications() -> Response:
        return _page(store)

    @blueprint.route("/ops/notifications/new", methods=["GET", "POST"])
    def new_rule() -> BaseResponse:
        kind = _asked_kind()
        if request.method == "GET":
            return _form(kind)
        try:
            rule = _add(store, clock())
        except ValidationError as error:
            return _form(kind, by_field(normalized(error)))
        except UnknownSite as error:
            return _form(kind, {"site_id": [gettext(error.message)]})
        return _page(store, rule.secret) if rule.secret else done(gettext("The rule is added."), "notifications")

    @blueprint.route("/ops/notifications/<uuid:rule_id>/edit", methods=["GET", "POST"])
    def edit_rule(rule_id: UUID) -> BaseResponse:
        rule = _rule(store, rule_id)
        if request.method == "GET":
            return _form(rule.kind, rule=rule)
        try:
            store.change(changed_rule(rule, _sent_changes(rule))) or abort(404, RULE_GONE)
        except ValidationError as error:
            return _form(rule.kind, by_field(normalized(error)), rule)
        log.info("notification_rule_changed", rule=str(rule_id), by=str(owner().id))
        return done(gettext("The rule is changed."), "notifications")

    @blueprint.post("/ops/notifications/<uuid:rule_id>/test")
    def test_rule(rule_id: UUID) -> BaseResponse:
        rule = _rule(store, rule_id)
        store.add_test(rule, writer.write_test(rule), clock())
        log.info("notification_tested", rule=str(rule_id), by=str(owner().id))
        return done(TEST_WAITS, "notifications")

    @blueprint.route("/ops/notifications/<uuid:rule_id>/remove", methods=["GET", "POST"])
    def remove_rule(rule_id: UUID) -> BaseResponse:
        if request.method == "GET":
            rule = _rule(store, rule_id)
            return console_page("notification_rule_remove", within="notifications", rule=rule)
        store.remove(rule_id) or abort(404, RULE_GONE)
        log.info("notification_rule_removed", rule=str(rule_id), by=str(owner().id))
        return done(gettext("The rule is removed. Its notifications that waited are not sent."), "notifications")


def _rule(store: NotificationStore, rule_id: UUID) -> Rule:
    return store.rule(rule_id) or abort(404, RULE_GONE)


def _page(store: NotificationStore, secret: str = "") -> Response:
    """The rules of all sites, and the part of the log that the query asks for."""
    site_id, state, after = request.args.get("site", "").strip(), _asked_state(), request.args.get("after")
    found = store.log(site_id or None, state, after, LOG_ON_A_PAGE)
    return console_page(
        "notifications",
        rules=[(rule, _shown_threshold(rule)) for rule in store.rules()],
        secret=secret,
        states=NOTIFICATION_STATES,
        question={name: text for name, text in (("site", site_id), ("state", state)) if text},
        found=found,
        after=found[-1].id if len(found) == LOG_ON_A_PAGE else None,
    )


def _asked_state() -> NotificationState | None:
    """Ends the request with 400 if it names an unknown state."""
    state = request.args.get("state", "")
    if state and state not in NOTIFICATION_STATES:
        abort(400, gettext("state: Choose one of %(choices)s.", choices=", ".join(NOTIFICATION_STATES)))
    return cast(NotificationState, state) if state else None


def _shown_threshold(rule: Rule) -> str:
    if rule.threshold is None:
        return ""
    match rule.kind:
        case RuleKind.SILENCE | RuleKind.LAG:
            return ngettext("%(count)s minute", "%(count)s minutes", rule.threshold)
        case RuleKind.GOAL:
            return ngettext("%(count)s conversion", "%(count)s conversions", rule.threshold)
        case RuleKind.DEAD_LETTERS:
            return ngettext("%(count)s event", "%(count)s events", rule.threshold)
    return f"{format_number(rule.threshold)} {KIND_DESCRIPTIONS[rule.kind].unit}"


def _form(kind: RuleKind | None, errors: FieldErrors | None = None, rule: Rule | None = None) -> Response:
    """The form of a new rule of this kind, or of `rule`. If there is no kind, the page asks for it."""
    return console_page(
        "notification_rule_new",
        400 if errors else 200,
        within="notifications",
        kind=kind,
        kinds=KIND_DESCRIPTIONS,
        limits=THRESHOLDS.get(kind) if kind else None,
        channels=list(Channel),
        periods=get_args(RulePeriod),
        languages=LANGUAGES,
        errors=errors or {},
        rule=rule,
        given=request.form if errors else _fields_of(rule) if rule else {"language": spoken_language()},
    )


def _fields_of(rule: Rule) -> dict[str, Any]:
    """What the form of a rule shows. The path of a URL may be a secret, so it is not shown."""
    target = rule.target if rule.channel is Channel.EMAIL else ""
    return {name: getattr(rule, name) for name in CHANGEABLE} | {"target": target}


def _asked_kind() -> RuleKind | None:
    """Ends the request with 400 if it names an unknown kind."""
    kind = request.values.get("kind", "")
    if kind and kind not in KIND_DESCRIPTIONS:
        abort(400, gettext("kind: Choose one of %(choices)s.", choices=", ".join(KIND_DESCRIPTIONS)))
    return RuleKind(kind) if kind else None


def _add(store: NotificationStore, now: datetime) -> Rule:
    """The rule that the form asks for, which is stored. Raises ValidationError, UnknownSite and Unavailable."""
    rule = store.add(load_rule(_sent("site_id", "kind", "channel", "target", "goal", "period", "language"), now))
    log.info("notification_rule_added", rule=str(rule.id), site_id=rule.site_id, by=str(owner().id))
    return rule


def _sent_changes(rule: Rule) -> dict[str, Any]:
    """The fields of the form of this rule. An empty target stays as it is."""
    sent = _sent("target", "language", *(("goal", "period") if rule.kind is RuleKind.GOAL else ()))
    return {name: value for name, value in sent.items() if value or name != "target"}


def _sent(*names: str) -> dict[str, Any]:
    """These fields of the form, and the threshold as a number."""
    sent: dict[str, Any] = {name: request.form.get(name, "").strip() for name in names}
    threshold = request.form.get("threshold", "").strip()
    is_number = threshold.isdecimal() and len(threshold) <= 10  # Python refuses to read thousands of digits
    return sent | {"threshold": int(threshold) if is_number else threshold}
