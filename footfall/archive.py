"""`python -m footfall archive`: writes the archive of past days, lists its files, and imports them again.

Exits with 0 if it is done, and with 1 if the archive or a store does not answer, or if ARCHIVE is not set. Repeating a
command is harmless.
"""

from datetime import date, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import click

from analytics.archive.archiver import Archiver
from analytics.archive.folder import ArchivedDay
from analytics.imports.footfall_export import FOOTFALL_EXPORT
from analytics.imports.importer import ImportPlan
from analytics.imports.source import SourceFile
from analytics.wording import printable
from config.services import Services
from config.settings import Settings
from footfall.command_group import COMMAND_PATIENCE, Group, fail, fail_unknown, services_of
from footfall.imports import import_with_progress

_DAY = click.DateTime(["%Y-%m-%d"])


@click.group("archive", cls=Group)
@click.pass_context
def archive_group(context: click.Context) -> None:
    """Keep each past day of each site as a Parquet file, in a folder or in S3-compatible storage."""
    settings: Settings = context.obj
    if not settings.archive:
        fail("ARCHIVE is not set. Set it to a folder, or to s3://KEY:SECRET@bucket/prefix.", 1)
    context.obj = services_of(context, COMMAND_PATIENCE)


@archive_group.command("run")
@click.pass_obj
def run_archive(services: Services) -> None:
    """Write the days that changed, and remove those that are no longer kept. A worker does so every hour."""
    done = services.archiver.run()
    click.echo(f"{done.written:,} days were written, and {done.removed:,} removed.")
    if done.busy:
        click.echo(f"{done.busy:,} sites were left out, because a worker builds their segments. Run it again.")
    if done.foreign:
        click.echo(f"{done.foreign:,} days were left out, because another system wrote their files: `archive restore`")
        click.echo("brings the events of these files into this system, and then they are replaced.")


@archive_group.command("list")
@click.option("--site", help="Only this site.")
@click.pass_obj
def list_archive(services: Services, site: str | None) -> None:
    """List the files of the archive, one on each line."""
    folder = services.archiver.folder
    click.echo(f"{'day':10}  {'bytes':>13}  site")
    for site_id in [services.sites.id_of(site)] if site else folder.sites():
        for each in folder.days(site_id):
            click.echo(f"{each.day}  {each.size:13,}  {printable(site_id)}")


@archive_group.command("restore")
@click.argument("site")
@click.option("--from", "first", type=_DAY, help="The first day (UTC).")
@click.option("--to", "last", type=_DAY, help="The last day (UTC).")
@click.option("--into", help="The site that gets the events. The default is the same site.")
@click.pass_obj
def restore_archive(
    services: Services, site: str, first: datetime | None, last: datetime | None, into: str | None
) -> None:
    """Import the archived days of a site. Events that are stored already stay as they are."""
    start, end = first.date() if first else date.min, last.date() if last else date.max
    archiver, target = services.archiver, services.sites.id_of(into or site)
    days = [each for each in archiver.folder.days(site) if start <= each.day <= end]
    if not days:
        fail_unknown("archived day of", printable(site), "archive list")
    with TemporaryDirectory(prefix="footfall-archive-") as folder:
        files = [SourceFile(_fetched(archiver, each, Path(folder))) for each in days]
        import_with_progress(services, ImportPlan(services.sites.get(target), FOOTFALL_EXPORT, files))
    if target == site:
        archiver.notes.note(site, [each.day for each in days])


def _fetched(archiver: Archiver, which: ArchivedDay, folder: Path) -> Path:
    path = folder / f"{which.day}.parquet"
    archiver.folder.copy(which, path)
    return path
