"""What groups of commands share: their database, and that a store that is away, or a mistake, is one line on stderr."""

import sys
from typing import Any, NoReturn

import click

from analytics.unavailable import Unavailable
from config.clients import make_database

PATIENCE = 600.0  # seconds for one answer of MongoDB, where all of a site's events are looked at


def fail(message: str, code: int) -> NoReturn:
    click.echo(f"footfall: {message}", err=True)
    sys.exit(code)


class Group(click.Group):
    """Says in one line which store is away; that ends with 2."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except Unavailable as error:
            fail(str(error), 2)


def database_of(context: click.Context, patience: float = 10.0) -> Any:
    """The Database of the settings that the group was given; closed when the command is over."""
    database = make_database(context.obj, patience)
    context.call_on_close(database.client.close)
    return database
