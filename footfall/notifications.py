"""`python -m footfall notifications`: the rules of notifications and the log, as /admin/notifications does.

Exits with 0 if it is done, 1 if a rule is refused, there is no such rule, a test was not sent or a store does not
answer, and 2 if the command is wrong.
"""

from datetime import UTC, datetime
from uuid import UUID

import click
from marshmallow import ValidationError

from analytics.languages import LANGUAGES
from analytics.notifications.notification import NOTIFICATION_STATES, NotificationState
from analytics.notifications.rule import Channel, Rule, RuleKind
from analytics.notifications.rule_schema import changed_rule, load_rule
from analytics.schema_fields import normalized
from analytics.sites.store import UnknownSite
from analytics.wording import printable
from config.services import Services
from footfall.command_group import Group, fail, fail_unknown, services_of

_SECRET_ONCE = "This secret is shown only now. It verifies `webhook-signature`:"  # noqa: S105  no secret
_RULE_ID = click.argument("rule_id", type=click.UUID)
_LANGUAGE = click.option(
    "--language",
    type=click.Choice(list(LANGUAGES)),
    help="The language of the notifications. An e-mail to an account uses the language of the account.",
)
_SITE = click.option("--site", "site_id", help="Only rules or notifications of this site.")


@click.group("notifications", cls=Group)
@click.pass_context
def notifications(context: click.Context) -> None:
    """Manage the rules of notifications, and show the log of what was sent."""
    context.obj = services_of(context)


@notifications.command("list")
@_SITE
@click.pass_obj
def list_rules(services: Services, site_id: str | None) -> None:
    """List rules, the oldest first, one on each line."""
    click.echo(f"{'id':36}  {'kind':12}  {'threshold':>9}  {'channel':7}  {'target':40}  site")
    for rule in services.notifications.rules(site_id):
        threshold = "" if rule.threshold is None else f"{rule.threshold:,}"
        kind = f"{rule.kind:12}  {threshold:>9}  {rule.channel:7}  {rule.shown_target:40}"
        click.echo(f"{rule.id}  {kind}  {printable(rule.site_id)}{f' ({printable(rule.goal)})' if rule.goal else ''}")


@notifications.command("add")
@click.argument("site_id")
@click.argument("kind", type=click.Choice([kind.value for kind in RuleKind]))
@click.argument("channel", type=click.Choice([channel.value for channel in Channel]))
@click.argument("target")
@click.option(
    "--threshold",
    type=int,
    help="Percent for spike and drop, minutes for silence and lag, conversions for goal, events for dead_letters.",
)
@click.option("--goal", help="The name of a goal of the site.")
@click.option(
    "--period", type=click.Choice(["day", "week", "month"]), help="The period in which conversions are counted."
)
@_LANGUAGE
@click.pass_obj
def add(services: Services, /, **given: str | int | None) -> None:
    """Add a rule to a site, and print its id. TARGET is an e-mail address or a URL."""
    try:
        rule = services.notifications.add(load_rule(given, datetime.now(UTC)))
    except ValidationError as error:
        fail("; ".join(f"{name}: {' '.join(said)}" for name, said in normalized(error).items()), 1)
    except UnknownSite as error:
        fail(f"{error.message} Set it up with `python -m footfall sites set SITE domains=HOST`.", 1)
    click.echo(rule.id)
    if rule.secret:
        click.echo(_SECRET_ONCE, err=True)
        click.echo(rule.secret)


@notifications.command("change")
@_RULE_ID
@click.option("--target", help="Another e-mail address or URL, for the same channel.")
@click.option("--threshold", type=int, help="The new threshold, in the unit that `add --help` lists.")
@click.option("--goal", help="The name of another goal of the site.")
@click.option(
    "--period", type=click.Choice(["day", "week", "month"]), help="The period in which conversions are counted."
)
@_LANGUAGE
@click.pass_obj
def change(services: Services, /, rule_id: UUID, **given: str | int | None) -> None:
    """Change a rule. What is not given stays, and so does the record of what was sent."""
    rule = services.notifications.rule(rule_id)
    try:
        changes = {name: value for name, value in given.items() if value is not None}
        if rule is None or not services.notifications.change(changed_rule(rule, changes)):
            fail_unknown("rule", rule_id, "notifications list")
    except ValidationError as error:
        fail("; ".join(f"{name}: {' '.join(said)}" for name, said in normalized(error).items()), 1)
    click.echo(f"The rule {rule_id} is changed.")


@notifications.command("remove")
@_RULE_ID
@click.pass_obj
def remove(services: Services, rule_id: UUID) -> None:
    """Remove a rule. Its notifications that wait are not sent."""
    if not services.notifications.remove(rule_id):
        fail_unknown("rule", rule_id, "notifications list")
    click.echo(f"The rule {rule_id} is removed.")


@notifications.command("test")
@_RULE_ID
@click.pass_obj
def test(services: Services, rule_id: UUID) -> None:
    """Send a test notification now, and say whether it was sent."""
    store = services.notifications
    rule: Rule = store.rule(rule_id) or fail_unknown("rule", rule_id, "notifications list")
    notification = store.add_test(rule, services.message_writer.write_test(rule), datetime.now(UTC))
    if claim := store.claim(datetime.now(UTC), notification.id):  # else a worker was faster
        services.deliveries.send(claim)
    found = store.get(notification.id) or fail("the test notification was removed meanwhile. Send it again.", 1)
    if found.error:
        fail(f"not sent to {found.target}: {found.error}", 1)
    click.echo(f"{found.state} to {found.target}")


@notifications.command("log")
@_SITE
@click.option("--state", type=click.Choice(NOTIFICATION_STATES), help="Only notifications in this state.")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1))
@click.option("--after", help="Continue after this notification, the last one of the previous page.")
@click.pass_obj
def log(
    services: Services, site_id: str | None, state: NotificationState | None, limit: int, after: str | None
) -> None:
    """List notifications, newest first: what was sent, what waits, and what failed and why."""
    for each in services.notifications.log(site_id, state, after, limit):
        why = f"  ({each.error})" if each.error else ""
        line = f"{each.created_at:%Y-%m-%d %H:%M:%S}  {each.state:8}  {each.channel:7}  {each.target}"
        click.echo(f"{each.id}  {line}  {each.message.subject}{why}")
