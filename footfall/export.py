"""`python -m footfall export`: writes the daily totals of a site as CSV files that Plausible imports.

Exits with 0 if it is done, 1 if a store does not answer or a query is refused, and 2 if the command is wrong. Repeating
it replaces the files.
"""

import sys
from datetime import datetime
from pathlib import Path

import click

from analytics.queries.query import of_days
from analytics.queries.query_schema import InvalidQuery
from analytics.reports.plausible_tables import SegmentsNotBuilt, days_with_events, write_plausible_tables
from analytics.reports.results import Refused
from analytics.segments.store import SegmentLost
from analytics.sites.store import UnknownSite
from analytics.wording import counted
from config.services import Services
from config.settings import Settings
from footfall.command_group import fail, open_services

_DAY = click.DateTime(["%Y-%m-%d"])


@click.command("export")
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option("--site", required=True, help="The site.")
@click.option("--from", "first", type=_DAY, help="The first day. The default is the day of the first event.")
@click.option("--to", "last", type=_DAY, help="The last day. The default is today.")
@click.pass_obj
def export_command(
    settings: Settings, *, folder: Path, site: str, first: datetime | None, last: datetime | None
) -> None:
    """Write the daily totals of a site into FOLDER, as CSV files of Plausible's export."""
    with open_services(settings, "mongodb") as services:
        try:
            _export(services, folder, site, first, last)
        except (InvalidQuery, Refused, UnknownSite) as error:
            fail(error.message, 1)
        except SegmentLost as error:
            fail(f"{error}.", 1)
        except SegmentsNotBuilt:
            fail("events of these days are not in segments yet. Run the command again when a worker built them.", 1)


def _export(services: Services, folder: Path, name: str, first: datetime | None, last: datetime | None) -> None:
    (site_id,) = services.sites.ids_of([name])
    site, reports = services.sites.get(site_id), services.reports
    start = first or (reports.earliest(site_id) or services.now()).astimezone(site.zone)
    end = last or services.now().astimezone(site.zone)
    days = days_with_events(reports.answer, site, of_days(start.date(), end.date(), site.zone))
    if not days:
        fail("the site has no events on these days.", 1)
    folder.mkdir(parents=True, exist_ok=True)
    with click.progressbar(length=len(days), label="Exporting", file=sys.stderr) as bar:
        for _ in write_plausible_tables(reports.answer, site, days, folder):
            bar.update(1)
    click.echo(f"The totals of {counted(len(days), 'day')} with events, from {days[0]} to {days[-1]}, are in {folder}.")
