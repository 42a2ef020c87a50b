"""`python -m footfall status` and `rates`: what waits, what came today, and how both changed, as the console shows it.

Both exit with 0, or with 1 if a store does not answer.
"""

import json
from dataclasses import asdict
from typing import Any

import click

from analytics.journal.samples import LENGTHS
from analytics.journal.totals import totals_of
from config.services import Services
from config.settings import Settings
from footfall.command_group import open_services

_PATIENCE = 10.0  # seconds for one answer of MongoDB
_RATES = ("accepted", "stored", "left_out", "dead")


@click.command("status")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, for programs.")
@click.pass_obj
def status_command(settings: Settings, as_json: bool) -> None:
    """Show the journal, the events of today (UTC), and the hours that are in no segment yet."""
    with open_services(settings, "redis", "mongodb", patience=_PATIENCE) as services:
        found = _status(services)
    if as_json:
        click.echo(json.dumps(found, indent=2))
    else:
        for name, value in found.items():
            click.echo(f"{name.replace('_', ' '):24}  {value if value is None else format(value, ',')}")


@click.command("rates")
@click.option("--length", type=click.Choice(list(LENGTHS)), default="hour", show_default=True)
@click.pass_obj
def rates_command(settings: Settings, length: str) -> None:
    """Show events a minute by what became of them, waiting events and lag, over the last hour, day or week."""
    with open_services(settings, "redis", "mongodb", patience=_PATIENCE) as services:
        parts = services.samples.recent(length)
    columns = (*(name.replace("_", " ") for name in _RATES), "waiting", "lag in s")
    click.echo(f"{'from (UTC)':16}  " + "  ".join(f"{column:>10}" for column in columns))
    for part in parts:
        cells = (*map(part.per_minute, _RATES), part.waiting, part.lag)
        click.echo(f"{part.start:%Y-%m-%d %H:%M}  " + "  ".join(map(_cell, cells)))


def _status(services: Services) -> dict[str, Any]:
    now = services.now()
    oldest, (dirty, due) = services.journal.oldest(), services.due_builds.waiting()
    totals = totals_of(services.ledger.of_days(now.date(), now.date()).values())
    return {
        "waiting_events": services.journal.waiting(),
        "oldest_waits_seconds": round((now - oldest).total_seconds()) if oldest else None,
        **{f"{name}_today": count for name, count in asdict(totals).items()},
        "dirty_hours": dirty.hours,
        "dirty_hours_to_build": due.hours,
    }


def _cell(value: float | None) -> str:
    return f"{'-' if value is None else format(value, ',.1f'):>10}"
