"""`python -m footfall dead-letters`: shows, exports, replays and purges events that failed permanently."""

import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from functools import wraps
from typing import Any, TextIO
from uuid import UUID

import click

from analytics.events.schema import InvalidEvent, read_event_json
from analytics.journal.dead_letters import DEATH_REASONS, DeadLetter, DeadLetterStore, LetterFilter
from analytics.journal.journal import Journal
from analytics.journal.replay import replay_all, replay_edited, replay_letter
from analytics.wording import printable
from footfall.command_group import Group, fail, fail_unknown, services_of

SENT = "Sent through the journal again. The dead letter is deleted when the event is stored."


def filtered(command: Callable[..., None]) -> Callable[..., None]:
    """Adds the options of a filter to a command, which receives it as `which`."""

    @click.option("--site", "site_id", help="Only dead letters of this site. '' means those whose site is not known.")
    @click.option("--reason", type=click.Choice(DEATH_REASONS))
    @click.option("--before", type=click.DateTime(), help="Only dead letters from before this time (UTC).")
    @wraps(command)
    def with_filter(
        *args: Any, site_id: str | None, reason: str | None, before: datetime | None, **kwargs: Any
    ) -> None:
        which = LetterFilter(site_id, reason, before.replace(tzinfo=UTC) if before else None)
        command(*args, which=which, **kwargs)

    return with_filter


class Letters(Group):
    """The group of commands. Also prints an InvalidEvent as one line."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except InvalidEvent as error:
            fail(f"the event would fail again. Correct it first: {error}", 1)


@click.group("dead-letters", cls=Letters)
@click.pass_context
def dead_letters(context: click.Context) -> None:
    """List, replay and purge dead letters. A dead letter is an event that failed permanently."""
    services = services_of(context)
    context.obj = (services.dead_letters, services.journal)


@dead_letters.command("count")
@filtered
@click.pass_obj
def count(stores: tuple[DeadLetterStore, Journal], which: LetterFilter) -> None:
    """Count dead letters by site and reason."""
    rows = stores[0].count(which)
    for row in rows:
        click.echo(f"{row.count:8,}  {row.reason:14}  {printable(row.site_id)}")
    click.echo(f"{sum(row.count for row in rows):8,}  in all")


@dead_letters.command("list")
@filtered
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1))
@click.option("--after", type=click.UUID, help="Continue after this dead letter, the last one of the previous page.")
@click.pass_obj
def list_letters(stores: tuple[DeadLetterStore, Journal], which: LetterFilter, limit: int, after: UUID | None) -> None:
    """List dead letters, newest first, one on each line."""
    for letter in stores[0].find(which, after=after, limit=limit):
        beginning = letter.raw[:60].decode(errors="replace")
        times = f"x{letter.attempts}"
        click.echo(f"{letter.id}  {letter.dead_at:%Y-%m-%d %H:%M:%S}  {letter.reason:13} {times:4} {beginning!r}")


@dead_letters.command("show")
@click.argument("letter_id", type=click.UUID)
@click.pass_obj
def show(stores: tuple[DeadLetterStore, Journal], letter_id: UUID) -> None:
    """Show one dead letter as JSON. It has the reason, the details and the payload."""
    click.echo(json.dumps(_get(stores, letter_id).as_json(), indent=2, ensure_ascii=False))


@dead_letters.command("export")
@filtered
@click.pass_obj
def export(stores: tuple[DeadLetterStore, Journal], which: LetterFilter) -> None:
    """Print dead letters as NDJSON, newest first."""
    for letter in stores[0].find(which):
        click.echo(json.dumps(letter.as_json(), ensure_ascii=False))


@dead_letters.command("replay")
@click.argument("letter_id", type=click.UUID)
@click.option("--event", type=click.File(), help="Send the event in this file instead (- is standard input).")
@click.option("--edit", is_flag=True, help="Edit the event in $EDITOR first.")
@click.pass_obj
def replay_one(stores: tuple[DeadLetterStore, Journal], letter_id: UUID, event: TextIO | None, edit: bool) -> None:
    """Replay one dead letter, unchanged or corrected. The event keeps its id, so it is stored once."""
    if event and edit:
        raise click.UsageError("Use either --event or --edit, not both.")
    letter = _get(stores, letter_id)
    text = event.read() if event else _edit(letter) if edit else None
    if text is not None:
        replay_edited(stores[1], letter, read_event_json(text.encode()))
    elif not replay_letter(stores[1], letter):
        fail(f"only {len(letter.raw)} of its {letter.raw_bytes} bytes are stored. Replay it with --event.", 1)
    click.echo(SENT)


@dead_letters.command("replay-all")
@filtered
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def replay_many(stores: tuple[DeadLetterStore, Journal], which: LetterFilter, yes: bool) -> None:
    """Replay all dead letters that match the options, unchanged."""
    total = _confirm("Replay", stores, which, yes)
    with click.progressbar(length=total, label="Replaying", file=sys.stderr) as bar:
        done = replay_all(stores[1], stores[0], which, lambda: bar.update(1))
    click.echo(
        f"{done.replayed:,} sent through the journal again. Each dead letter is deleted when its event is stored."
    )
    if done.cut:
        fail(f"{done.cut} were too large to be stored completely. Replay them one by one with --event.", 1)


@dead_letters.command("purge")
@filtered
@click.option("--all", "everything", is_flag=True, help="Purge all dead letters, without a filter.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def purge(stores: tuple[DeadLetterStore, Journal], which: LetterFilter, everything: bool, yes: bool) -> None:
    """Purge all dead letters that match the options."""
    if which == LetterFilter() and not everything:
        raise click.UsageError("Say which dead letters, with --site, --reason or --before, or use --all.")
    now = datetime.now(UTC)
    which = which.until(now)
    _confirm("Purge", stores, which, yes)
    click.echo(f"{stores[0].purge(which, now):,} purged.")


def _get(stores: tuple[DeadLetterStore, Journal], letter_id: UUID) -> DeadLetter:
    return stores[0].get(letter_id) or fail_unknown("dead letter", letter_id, "dead-letters list")


def _edit(letter: DeadLetter) -> str:
    return click.edit(letter.raw.decode(errors="replace"), extension=".json") or fail(
        "the event was not changed, so nothing is sent", 1
    )


def _confirm(verb: str, stores: tuple[DeadLetterStore, Journal], which: LetterFilter, yes: bool) -> int:
    total = sum(row.count for row in stores[0].count(which))
    if not yes:
        click.confirm(f"{verb} {total:,} dead letters?", abort=True)
    return total
