"""`python -m footfall journals`: the journals, which of them takes a site's events, and how to remove one.

docs/decisions/0021-several-journals.md explains them. A server is added by JOURNAL_URLS. Exits with 0, or with 1 if a
store does not answer or if a journal cannot be removed yet.
"""

import json
import sys
from dataclasses import asdict
from datetime import date, datetime
from typing import Any

import click

from analytics.diagnostics.finding import without_password
from analytics.journal.journal import Journal
from analytics.journal.journals import journal_state
from analytics.journal.ledger import Ledger, move_last_received
from analytics.store_notes import FIRST_JOURNAL
from analytics.unavailable import Unavailable
from config.services import Services
from config.settings import Settings
from footfall.command_group import SETTINGS, Group, fail, services_of


@click.group("journals", cls=Group)
@click.pass_context
def journals_group(context: click.Context) -> None:
    """List the journals, print the journal of a site, and remove a journal. To add one, set JOURNAL_URLS."""
    context.obj = services_of(context)


@journals_group.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, for programs.")
@click.pass_context
def list_journals(context: click.Context, as_json: bool) -> None:
    """Show what waits in each journal. A site has moved when no event of it waits in another journal."""
    found = _states(context.obj, context.meta[SETTINGS])
    if as_json:
        click.echo(json.dumps({"journals": found}, indent=2))
    else:
        click.echo(
            f"{'journal':8}  {'sites':>7}  {'waiting':>11}  {'oldest':>8}  {'of others':>11}  {'memory':>13}  server"
        )
        for state in found:
            click.echo(_line(state))
    sys.exit(any("error" in state for state in found))


@journals_group.command("of")
@click.argument("site")
@click.pass_obj
def journal_of_site(services: Services, site: str) -> None:
    """Print the journal that takes the events of SITE, a site_id."""
    click.echo(services.journal.part_of(site).name or FIRST_JOURNAL)


@journals_group.command("remove")
@click.argument("name")
@click.pass_context
def remove_journal(context: click.Context, name: str) -> None:
    """Move the counts of the journal NAME to the other stores, so that its server can be removed.

    First write `-NAME=URL` in JOURNAL_URLS, and start all processes again. Then run this command, remove the server
    from JOURNAL_URLS, and start all processes again.
    """
    services: Services = context.obj
    settings: Settings = context.meta[SETTINGS]
    takes_events = {each.name: each.takes_events for each in settings.journals}
    if name not in takes_events:
        fail(f"JOURNAL_URLS has no journal {name}.", 1)
    if takes_events[name]:
        fail(f"The journal {name} takes events. Write -{name}=URL in JOURNAL_URLS, and start all processes again.", 1)
    (part,) = (each for each in services.journal.parts if each.name == name)
    if waiting := part.waiting():
        fail(f"{waiting:,} events wait in the journal {name}. Run this command again when workers have stored them.", 1)
    source = services.further_redis[name]
    Ledger(source, services.database, settings.replicas).carry(date.max)
    move_last_received(source, services.redis)
    services.store_notes.forget_journal(name)
    click.echo(f"The journal {name} is empty. Remove it from JOURNAL_URLS, and start all processes again.")


def _states(services: Services, settings: Settings) -> list[dict[str, Any]]:
    sites = [site.site_id for site in services.sites.all()]
    urls = {"": settings.redis_url} | {each.name: each.url for each in settings.journals}
    closing = {each.name for each in settings.journals if not each.takes_events}
    return [
        {
            "name": part.name or FIRST_JOURNAL,
            "server": without_password(urls[part.name]),
            "takes_events": part.name not in closing,
            "sites": sum(services.journal.part_of(site_id) is part for site_id in sites),
        }
        | _state(services, part)
        for part in services.journal.parts
    ]


def _state(services: Services, part: Journal) -> dict[str, Any]:
    try:
        found = asdict(journal_state(part, services.journal))
    except Unavailable as error:
        return {"error": str(error)}
    oldest: datetime | None = found.pop("oldest")
    return found | {"oldest_waits_seconds": round((services.now() - oldest).total_seconds()) if oldest else None}


def _line(state: dict[str, Any]) -> str:
    name = state["name"] if state["takes_events"] else f"-{state['name']}"
    if "error" in state:
        return f"{name:8}  {state['sites']:7,}  {state['error']}  {state['server']}"
    oldest = "" if state["oldest_waits_seconds"] is None else f"{state['oldest_waits_seconds']:,} s"
    limit = f" of {state['most'] / 2**20:,.0f}" if state["most"] else ""
    memory = f"{state['used'] / 2**20:,.0f}{limit} MB"
    counts = f"{state['waiting']:11,}  {oldest:>8}  {state['of_others']:11,}"
    return f"{name:8}  {state['sites']:7,}  {counts}  {memory:>13}  {state['server']}"
