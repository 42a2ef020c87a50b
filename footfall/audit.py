"""`python -m footfall audit`: prints the ledger and checks that it balances.

Prints a line per site and day, then the faults. Exits with 0 if everything balances, with 1 if something does not, and
with 2 if that is unknown: a store is not reachable, or events kept moving.
"""

import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import asdict
from datetime import UTC, datetime

import click

from analytics.journal.audit import Audit, Audited, Balance, audit
from analytics.wording import printable
from config.services import Services
from config.settings import Settings
from footfall.command_group import check_stores, stores_of

_COUNTS = (
    "received",
    "rejected",
    "dropped",
    "accepted",
    "replayed",
    "imported",
    "stored",
    "duplicate",
    "dead",
    "dropped_later",
    "waiting",
)
_PATIENCE = 3600.0  # seconds for one count; a count of 600,000 events took about a second


@click.command("audit")
@click.option("--site", help="Only this site.")
@click.option(
    "--day", type=click.DateTime(["%Y-%m-%d"]), help="Only this day (UTC). On a busy site, choose a past day."
)
@click.option(
    "--wait",
    type=click.FloatRange(0),
    default=30.0,
    show_default=True,
    help="Seconds to wait until all events have arrived.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, for programs.")
@click.pass_obj
def audit_command(settings: Settings, site: str | None, day: datetime | None, wait: float, as_json: bool) -> None:
    """Print the ledger of each site and day, and check it."""

    def is_chosen(balance: Balance) -> bool:
        account = balance.account
        return site in (None, account.site_id) and (day is None or account.day == day.date())

    with stores_of(settings, code=2):
        check_stores(settings, "mongodb")
        found = _audit_at_rest(settings, wait, is_chosen)
    if as_json:
        click.echo(_as_json(found))
    else:
        click.echo(_as_table(found.balances))
        _say_verdict(found)
    sys.exit(1 if found.faults else 0 if found.at_rest else 2)


def _audit_at_rest(settings: Settings, wait: float, is_chosen: Callable[[Balance], bool]) -> Audit:
    """The chosen balances at rest, or their current state when the wait is over."""
    end = time.monotonic() + wait
    with closing(Services(settings, patience=_PATIENCE)) as services:
        stores = Audited(services.ledger, services.journal, services.events, services.dead_letters)
        while not (found := audit(stores).only(is_chosen)).at_rest and time.monotonic() < end:
            time.sleep(0.5)
    return found


def _as_json(found: Audit) -> str:
    rows = [
        {"site_id": balance.account.site_id, "day": balance.account.day.isoformat()} | _counts(balance)
        for balance in found.balances
    ]
    whole = {"at": datetime.now(UTC).isoformat(), "at_rest": found.at_rest, "uncounted": found.uncounted}
    return json.dumps(whole | {"faults": found.faults, "balances": rows}, indent=2)


def _counts(balance: Balance) -> dict[str, object]:
    return {name: value for name, value in asdict(balance).items() if name != "account"}


def _as_table(balances: Iterable[Balance]) -> str:
    rows = [("day", "site", *_COUNTS, "rejected or dropped for"), *(_row(balance) for balance in balances)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    numbers = range(2, 2 + len(_COUNTS))
    return "\n".join(
        "  ".join(
            cell.rjust(width) if n in numbers else cell.ljust(width)
            for n, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def _row(balance: Balance) -> tuple[str, ...]:
    counts = (getattr(balance, name) for name in _COUNTS)
    cells = (sum(count.values()) if isinstance(count, dict) else count for count in counts)
    reasons = (f"{n:,} {reason}" for reason, n in _reasons(balance).items())
    account = balance.account
    return (account.day.isoformat(), printable(account.site_id), *(f"{cell:,}" for cell in cells), ", ".join(reasons))


def _reasons(balance: Balance) -> Counter[str]:
    return Counter(balance.rejected) + Counter(balance.dropped) + Counter(balance.dropped_later)


def _say_verdict(found: Audit) -> None:
    for fault in found.faults:
        click.secho(fault, fg="red")
    if found.uncounted:
        click.echo(
            f"{found.uncounted:,} entries bypassed the collector. They are counted when a worker has settled them."
        )
    if moving := sum(balance.is_moving for balance in found.balances):
        click.secho(
            f"{moving} of these are not checked, because events are still arriving. Try again, or choose another "
            "--day.",
            fg="yellow",
        )
    elif not found.faults:
        click.secho(
            "The ledger is correct: accepted = stored + duplicate + dead + dropped_later + waiting, and MongoDB "
            "agrees.",
            fg="green",
        )
