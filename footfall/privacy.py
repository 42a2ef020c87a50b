"""`python -m footfall visitors` and `purge`: finds, exports and erases a visitor's data, and purges old events.

Exits with 0 if the request is fulfilled, with 1 if something is left, and with 2 if that is unknown: a store is not
reachable.
"""

import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import wraps
from typing import Any

import click

from analytics.privacy.eraser import Eraser
from analytics.privacy.retention import Purged, Purger
from analytics.privacy.visitor import Visitor
from analytics.privacy.visitor_data import Found
from config.settings import Settings
from footfall.command_group import COMMAND_PATIENCE, VerdictGroup, open_services, services_of, wait_option

_PAUSE = 1.0  # seconds between two checks for completion
PLACES = ("events", "segments", "dead_letters", "journal")


def whose(command: Callable[..., None]) -> Callable[..., None]:
    """Adds the options that name a visitor to a command, which receives it as `visitor`."""

    @click.option("--site", "site_id", required=True, help="The site of the visitor.")
    @click.option("--user", "user_id", help="The user_id of the visitor's events.")
    @click.option("--visitor", "visitor_id", help="The visitor_id of one day, if the events have no user_id.")
    @wraps(command)
    def with_visitor(*args: Any, site_id: str, user_id: str | None, visitor_id: str | None, **kwargs: Any) -> None:
        try:
            visitor = Visitor(site_id, user_id, visitor_id)
        except ValueError:
            raise click.UsageError("Say which visitor, with either --user or --visitor.") from None
        command(*args, visitor=visitor, **kwargs)

    return with_visitor


@click.group("visitors", cls=VerdictGroup)
@click.pass_context
def visitors_group(context: click.Context) -> None:
    """Search, export and erase the data of one visitor."""
    context.obj = services_of(context, COMMAND_PATIENCE).eraser


@visitors_group.command("search")
@whose
@click.pass_obj
def search(eraser: Eraser, visitor: Visitor) -> None:
    """Count the data of one visitor in each store. Ends with 0 if nothing is found, else with 1."""
    _say_and_exit(eraser.data.search(visitor))


@visitors_group.command("export")
@whose
@click.pass_obj
def export(eraser: Eraser, visitor: Visitor) -> None:
    """Print the data of one visitor as NDJSON. It has stored events, dead letters, and events in the journal."""
    for line in eraser.data.export(visitor):
        click.echo(line, nl=False)


@visitors_group.command("erase")
@whose
@click.option("--yes", is_flag=True, help="Do not ask.")
@wait_option("all data is erased")
@click.pass_obj
def erase(eraser: Eraser, visitor: Visitor, yes: bool, wait: float) -> None:
    """Erase the data of one visitor. Waits until old files are deleted too, and searches each store again."""
    if not yes:
        found = eraser.data.search(visitor)
        click.confirm(f"Erase {found.events:,} events and {found.dead_letters:,} dead letters?", abort=True)
    erased = eraser.erase(visitor)
    click.echo(f"{erased.events:,} events and {erased.dead_letters:,} dead letters are erased.")
    end = time.monotonic() + wait
    eraser.finish()
    while not eraser.erasures.is_finished(erased.name) and time.monotonic() < end:
        time.sleep(_PAUSE)
        eraser.finish()
    if not eraser.erasures.is_finished(erased.name):
        click.secho("The erasure is not finished. A worker continues it. Search again later.", fg="yellow")
    _say_and_exit(eraser.data.search(visitor))


def _say_and_exit(found: Found) -> None:
    for place in PLACES:
        click.echo(f"{getattr(found, place):8,}  {place.replace('_', ' ')}")
    if found.is_nothing:
        click.secho("No data of this visitor is stored.", fg="green")
    elif found.segments and not found.events:
        click.echo(
            "A worker rebuilds the segments within two minutes. If not, run `python -m footfall segments rebuild`."
        )
    sys.exit(0 if found.is_nothing else 1)


@click.command("purge")
@click.option("--site", "site_id", required=True, help="The site of the events.")
@click.option("--before", type=click.DateTime(["%Y-%m-%d"]), required=True, help="The first day to keep.")
@click.option("--dry-run", is_flag=True, help="Only count.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def purge_command(settings: Settings, site_id: str, before: datetime, dry_run: bool, yes: bool) -> None:
    """Purge a site's old events, dead letters and imported totals. The first day to keep is in the site's time zone."""
    with open_services(settings, "mongodb", code=2) as services:
        first = before.replace(tzinfo=services.sites.get(site_id).zone).astimezone(UTC)
        _purge(services.purger, site_id, first, dry_run, yes)


def _purge(purger: Purger, site_id: str, first: datetime, dry_run: bool, yes: bool) -> None:
    counted = purger.count(site_id, first)
    click.echo(f"{_said(counted)} are from before {first:%Y-%m-%d %H:%M} UTC.")
    if dry_run or not (counted.events or counted.dead_letters or counted.daily_totals):
        return
    if not yes:
        click.confirm("Remove them permanently?", abort=True)
    with click.progressbar(length=counted.events, label="Purging", file=sys.stderr) as bar:
        done = purger.purge(site_id, first, each=bar.update)
    click.echo(f"{_said(done)} are purged. A worker updates the segments.")


def _said(purged: Purged) -> str:
    totals = f", and {purged.daily_totals:,} imported daily totals" if purged.daily_totals else ""
    return f"{purged.events:,} events and {purged.dead_letters:,} dead letters{totals}"
