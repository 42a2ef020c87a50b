"""`python -m footfall audit`: the books, and whether they add up.

Out: a line for each site and day, then what does not add up. 0 where all does, 1 where something does not, 2 where it
could not be told: a store is away, or events kept moving.
"""

import json
import sys
import time
from collections.abc import Iterable
from dataclasses import asdict
from datetime import UTC, datetime

import click

from analytics.audit import Audit, Audited, Line, audit
from analytics.books import Books
from analytics.dead_letters import DeadLetterStore
from analytics.event_store import EventStore
from analytics.journal import make_journal
from analytics.unavailable import Unavailable
from config.clients import make_database, make_redis
from config.settings import Settings

COUNTS = ("received", "rejected", "dropped", "accepted", "replayed", "stored", "duplicate", "dead", "waiting")


@click.command("audit")
@click.option("--site", help="Print this site only; all are checked.")
@click.option("--day", type=click.DateTime(["%Y-%m-%d"]), help="Print this day only (UTC); all are checked.")
@click.option("--wait", default=30.0, show_default=True, help="Seconds to wait for events to come to rest.")
@click.option("--json", "as_json", is_flag=True, help="For programs: one JSON object.")
@click.pass_obj
def audit_command(settings: Settings, site: str | None, day: datetime | None, wait: float, as_json: bool) -> None:
    """Print the books of every site and day, and check them."""
    try:
        found = _audit_at_rest(settings, wait)
    except Unavailable as error:
        click.echo(f"footfall: {error}", err=True)
        sys.exit(2)
    lines = [x for x in found.lines if site in (None, x.account.site_id) and (not day or x.account.day == day.date())]
    click.echo(_as_json(found, lines) if as_json else _as_table(lines))
    if not as_json:
        _say_verdict(found)
    sys.exit(1 if found.faults else 0 if found.at_rest else 2)


def _audit_at_rest(settings: Settings, wait: float) -> Audit:
    redis, database = make_redis(settings), make_database(settings)
    stores = Audited(Books(redis, database), make_journal(settings), EventStore(database), DeadLetterStore(database))
    end = time.monotonic() + wait
    with database.client:
        while not (found := audit(stores)).at_rest and time.monotonic() < end:
            time.sleep(0.5)
    return found


def _as_json(found: Audit, lines: Iterable[Line]) -> str:
    rows = [{"site_id": line.account.site_id, "day": line.account.day.isoformat()} | _counts(line) for line in lines]
    whole = {"at": datetime.now(UTC).isoformat(), "at_rest": found.at_rest, "uncounted": found.uncounted}
    return json.dumps(whole | {"faults": found.faults, "lines": rows}, indent=2)


def _counts(line: Line) -> dict[str, object]:
    return {name: value for name, value in asdict(line).items() if name != "account"}


def _as_table(lines: Iterable[Line]) -> str:
    rows = [("day", "site", *COUNTS, "rejected or dropped for"), *(_row(line) for line in lines)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    numbers = range(2, 2 + len(COUNTS))
    return "\n".join(
        "  ".join(
            cell.rjust(width) if n in numbers else cell.ljust(width)
            for n, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def _row(line: Line) -> tuple[str, ...]:
    counts = (getattr(line, name) for name in COUNTS)
    cells = (sum(count.values()) if isinstance(count, dict) else count for count in counts)
    reasons = (f"{n:,} {reason}" for reason, n in (line.rejected | line.dropped).items())
    site = line.account.site_id or "(no site)"
    return (line.account.day.isoformat(), site, *(f"{cell:,}" for cell in cells), ", ".join(reasons))


def _say_verdict(found: Audit) -> None:
    for fault in found.faults:
        click.secho(fault, fg="red")
    if found.uncounted:
        click.echo(f"{found.uncounted:,} entries came past the door; they are counted when a worker has settled them.")
    if not found.at_rest:
        click.secho(
            "Events are still moving, so this may be off by what was on its way; ask again at rest.", fg="yellow"
        )
    elif not found.faults:
        click.secho("It all adds up: accepted = stored + duplicate + dead + waiting, and MongoDB agrees.", fg="green")
