"""`python -m footfall import`, and `imports`: brings events and daily totals of other systems in, lists imports, and
removes them.

Exits with 0 if it is done, 1 if a file cannot be read or a store does not answer, and 2 if the command is wrong. After
a 1, the same command continues the import.
"""

import json
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path

import click

from analytics.imports.formats import IMPORT_FORMATS, detect
from analytics.imports.importer import SAVED_EVERY, ImportPlan, NobodyStores, Preview
from analytics.imports.source import UnreadableFile, source_files
from analytics.imports.store import ImportRecord, ImportRemoved
from analytics.sites.store import UnknownSite
from analytics.unavailable import Unavailable
from analytics.wording import printable
from config.services import Services
from config.settings import Settings
from footfall.command_group import COMMAND_PATIENCE, Group, fail, fail_unknown, open_services, services_of, wait_option
from tasks.events import WakeUps

_PAUSE = 0.2  # seconds between two looks at the journal
_STOPS_WITHIN = timedelta(seconds=3 * SAVED_EVERY)  # a running import notices that it is being removed
_AGAIN = "Run the same command again: it continues where it stopped."


@click.command("import")
@click.argument("paths", nargs=-1, required=True, metavar="FILE...", type=click.Path(path_type=Path))
@click.option("--site", required=True, help="The site that gets the events.")
@click.option("--format", "name", type=click.Choice(list(IMPORT_FORMATS)), help="The default is to detect it.")
@click.option("--owner", default="", help="The site in the other system, if the files have several.")
@click.option("--dry-run", is_flag=True, help="Import nothing. Show the first events, and what is left out.")
@click.pass_obj
def import_command(
    settings: Settings, *, paths: tuple[Path, ...], site: str, name: str | None, owner: str, dry_run: bool
) -> None:
    """Import the history of a site from files of another system, or from an export of Footfall."""
    with open_services(settings, "mongodb") as services, _failing_in_one_line(dry_run):
        plan = _plan(services, paths, site, name, owner)
        click.echo(f"Format: {plan.format.title}. Site: {printable(plan.site.site_id)}.")
        for theirs, ours in plan.format.mapping.items():
            click.echo(f"  {theirs:34} -> {ours}")
        if dry_run:
            _say_preview(services.importer.preview(plan, services.lookups))
        else:
            _import(services, plan)


def import_with_progress(services: Services, plan: ImportPlan) -> None:
    """Import with a progress bar, and say what was imported. A failure ends the process with one line."""
    with _failing_in_one_line():
        _import(services, plan)


@contextmanager
def _failing_in_one_line(dry_run: bool = False) -> Iterator[None]:
    try:
        yield
    except UnreadableFile as error:
        fail(f"{error} {'' if dry_run else 'Repair the file, or leave it out.'}".strip(), 1)
    except NobodyStores:
        fail(f"no worker stores the events. Start the system (make run). {_AGAIN}", 1)
    except ImportRemoved:
        fail("this import is being removed. Run `imports remove` again, and then import again.", 1)
    except UnknownSite as error:
        fail(error.message, 1)
    except (Unavailable, KeyboardInterrupt):
        click.echo(_AGAIN, err=True)
        raise


def _plan(services: Services, paths: tuple[Path, ...], site: str, name: str | None, owner: str) -> ImportPlan:
    """Raises UnreadableFile, UnknownSite and Unavailable."""
    (site_id,) = services.sites.ids_of([site])
    files = source_files(paths)
    return ImportPlan(services.sites.get(site_id), IMPORT_FORMATS[name] if name else detect(files), files, owner)


def _import(services: Services, plan: ImportPlan) -> None:
    record = _run(services, plan)
    what = "daily totals were stored" if plan.format.is_daily else "events were sent to the journal"
    click.echo(f"{record.rows:,} rows were read, and {record.events:,} {what}.")
    _say_skipped(record.skipped)
    click.echo(f"To remove them: python -m footfall imports remove {record.id}")


def _run(services: Services, plan: ImportPlan) -> ImportRecord:
    start, done, before = time.monotonic(), 0, None
    what = "daily totals" if plan.format.is_daily else "events"
    with click.progressbar(length=plan.size, label="Importing", file=sys.stderr, item_show_func=_shown_item) as bar:

        def show(record: ImportRecord) -> None:
            nonlocal done, before
            before = record.events if before is None else before
            speed = (record.events - before) / max(time.monotonic() - start, 0.001)
            bar.update(plan.done - done, f"{record.events:,} {what}, {speed:,.0f}/s")
            done = plan.done

        return services.importer.run(plan, WakeUps(services.journal).ask, show)


def _shown_item(item: str | None) -> str:
    return item or ""


def _say_preview(seen: Preview) -> None:
    click.echo(f"{seen.rows:,} rows. The first of {seen.stored:,} {'daily totals' if seen.totals else 'events'}:")
    for example in seen.examples():
        click.echo(f"  {json.dumps(example, ensure_ascii=True)}")
    _say_skipped(seen.skipped)
    click.echo("Nothing was imported.")


def _say_skipped(skipped: Mapping[str, int]) -> None:
    for reason, count in sorted(skipped.items(), key=lambda each: (-each[1], each[0])):
        click.echo(f"  {count:,} left out: {printable(reason)}")


@click.group("imports", cls=Group)
@click.pass_context
def imports_group(context: click.Context) -> None:
    """List and remove imports."""
    context.obj = services_of(context, COMMAND_PATIENCE)


@imports_group.command("list")
@click.option("--site", help="Only this site.")
@click.pass_obj
def list_imports(services: Services, site: str | None) -> None:
    """List imports, the latest first, with the number of their rows, of the events or daily totals that were sent, and
    of those that are stored now.
    """
    click.echo(f"{'id':12}  {'begun':16}  {'state':8}  {'format':10}  {'rows':>11}  {'sent':>11}  {'stored':>11}  site")
    for x in services.imports.list(site and services.sites.id_of(site)):
        state, stored = "finished" if x.is_finished else "begun", services.imports.count(x)
        counts = f"{x.rows:11,}  {x.events:11,}  {stored:11,}  {printable(x.site_id)}"
        click.echo(f"{x.id:12}  {x.started_at:%Y-%m-%d %H:%M}  {state:8}  {x.format:10}  {counts}")
        click.echo(f"    {', '.join(map(printable, x.files))}")


@imports_group.command("remove")
@click.argument("record_id", metavar="ID")
@click.option("--yes", is_flag=True, help="Do not ask.")
@wait_option("the import's events have left the journal")
@click.pass_obj
def remove_import(services: Services, record_id: str, yes: bool, wait: float) -> None:
    """Remove the events or daily totals that an import brought. Events that were there before stay."""
    record = services.imports.get(record_id) or fail_unknown("import", repr(record_id), "imports list")
    is_daily = record.format in IMPORT_FORMATS and IMPORT_FORMATS[record.format].is_daily
    stored, what = services.imports.count(record), "daily totals" if is_daily else "events"
    if not yes:
        click.confirm(f"Remove {stored:,} {what} of {printable(record.site_id)}?", abort=True)
    since = services.imports.stop(record.id)
    if not _is_drained(services, since if record.is_finished else since + _STOPS_WITHIN, wait):
        fail("events still wait in the journal. Check that a worker runs, and run the command again.", 1)
    removed = 0
    with click.progressbar(length=stored, label="Removing", file=sys.stderr) as bar:
        for count in services.imports.remove_all_of(record, services.journal.oldest()):
            removed += count
            bar.update(count)
    services.imports.forget(record.id)
    click.echo(f"{removed:,} {what} are removed.{'' if is_daily else ' A worker updates the segments.'}")


def _is_drained(services: Services, moment: datetime, wait: float) -> bool:
    """Wait until the journal holds no event from before that moment. Returns whether it does."""
    end = time.monotonic() + wait
    while services.now() < moment or ((oldest := services.journal.oldest()) and oldest <= moment):
        if time.monotonic() > end:
            return False
        time.sleep(_PAUSE)
    return True
