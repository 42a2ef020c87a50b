"""`python -m footfall upgrade`: brings the data to the format of this version.

Exits with 0 if nothing is left to do, with 1 if `--check` found something to do or if this version cannot use the data,
and with 2 if that is unknown: a store is not reachable.
"""

import sys
from contextlib import closing

import click

from analytics.migrations import migrate, pending
from analytics.segments.visit_sql import FORMAT
from analytics.store_notes import STORE_FORMAT, StoresNotReady
from config.services import Services
from config.settings import Settings
from config.version import FOOTFALL_VERSION
from footfall.command_group import COMMAND_PATIENCE, fail, stores_of
from footfall.store_checks import check_store


@click.command("upgrade")
@click.option("--check", is_flag=True, help="Only say what would happen.")
@click.pass_obj
def upgrade_command(settings: Settings, check: bool) -> None:
    """Bring the data to the format of this version, while the system runs."""
    with stores_of(settings, code=2):
        check_store(settings, "mongodb")
        with closing(Services(settings, patience=COMMAND_PATIENCE)) as services:
            try:
                services.store_notes.check_redis()
                services.store_notes.check_mongodb()
            except StoresNotReady as error:
                fail(str(error), 1)
            _upgrade(services, check)


def _upgrade(services: Services, check: bool) -> None:
    notes = services.store_notes
    click.echo(f"Footfall {FOOTFALL_VERSION} uses format {STORE_FORMAT}. The data has format {notes.format()}.")
    left = pending(notes)
    for migration in left:
        click.echo(f"{'To do' if check else 'Now'}: format {migration.format}, {migration.what}.")
        if not check:
            migrate(notes, services.database, migration)
    _say_about_segments(services)
    if not left:
        click.echo("Nothing to upgrade.")
    elif check:
        click.echo("Make a backup first. Then run `python -m footfall upgrade` while the system runs.")
        sys.exit(1)


def _say_about_segments(services: Services) -> None:
    """Older segments stay readable, so they are no reason to exit with 1."""
    found = services.segments.store.count_by_format()
    if older := sum(n for form, n in found.items() if form < FORMAT):
        click.echo(
            f"{older:,} of {found.total():,} segments have an older format. They stay readable. `python -m footfall"
            " segments rebuild` rewrites them, and reports about visits are then faster."
        )
