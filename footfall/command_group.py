"""What groups of commands share: their database, and that a store that does not answer, or a mistake, is one line on
stderr.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import click

from config.clients import make_database
from config.settings import Settings
from footfall.store_checks import StoreUnreachable, check_store, explained

SETTINGS = "footfall.settings"  # in a context's meta, where contexts within it find them
COMMAND_PATIENCE = 600.0  # seconds for one answer of MongoDB, where all of a site's events are looked at


def fail(message: str, code: int) -> NoReturn:
    click.echo(f"footfall: {message}", err=True)
    sys.exit(code)


@contextmanager
def stores_of(settings: Settings, code: int = 1) -> Iterator[None]:
    """Ends the process with `code` and one line if the block fails because a store does not answer."""
    try:
        with explained(settings):
            yield
    except StoreUnreachable as error:
        fail(str(error), code)


class StoreCommand(click.Command):
    """Looks whether MongoDB answers before it begins: its reads and writes would try for much longer."""

    def invoke(self, ctx: click.Context) -> Any:
        check_store(ctx.meta[SETTINGS], "mongodb")
        return super().invoke(ctx)


class Group(click.Group):
    """Commands on stores. If one does not answer, they end with 1."""

    command_class = StoreCommand
    unreachable = 1

    def invoke(self, ctx: click.Context) -> Any:
        settings = ctx.meta[SETTINGS] = ctx.obj
        with stores_of(settings, self.unreachable):
            return super().invoke(ctx)


class VerdictGroup(Group):
    """Commands that end with 1 if something is wrong. If a store does not answer, they end with 2: it is not known."""

    unreachable = 2


def database_of(context: click.Context, patience: float = 10.0) -> Any:
    """The Database of the settings that the group was given; closed when the command is over."""
    database = make_database(context.obj, patience)
    context.call_on_close(database.client.close)
    return database
