"""Shared by groups of commands: the services, and one line on stderr for an unreachable store or a mistake."""

import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any, NoReturn

import click

from analytics.store_notes import StoresNotReady
from config.services import Services
from config.settings import Settings
from config.start_check import check_stores_before_start
from footfall.store_checks import StoreUnreachable, check_store, explained

SETTINGS = "footfall.settings"  # a key of a click context's meta; contexts within it find it too
COMMAND_PATIENCE = 600.0  # seconds for one answer of MongoDB, for commands that read all events of a site


def fail(message: str, code: int) -> NoReturn:
    click.echo(f"footfall: {message}", err=True)
    sys.exit(code)


def fail_unknown(what: str, given: object, command: str) -> NoReturn:
    """Ends the process, because there is no `what` of this name. `command` lists those that there are."""
    fail(f"there is no {what} {given}. List them with `python -m footfall {command}`.", 1)


@contextmanager
def stores_of(settings: Settings, code: int = 1) -> Iterator[None]:
    """Ends the process with `code` and one line if the block fails because a store does not answer, or because this
    version cannot use the data.
    """
    try:
        with explained(settings):
            yield
    except (StoreUnreachable, StoresNotReady) as error:
        fail(str(error), code)


def check_stores(settings: Settings, *needed: str) -> None:
    """Raises StoreUnreachable if one of the `needed` stores does not answer, and StoresNotReady if the data has a later
    format or its restore is not complete.
    """
    for store in needed:
        check_store(settings, store)
    check_stores_before_start(settings, "redis", "mongodb")


@contextmanager
def open_services(
    settings: Settings, *needed: str, code: int = 1, patience: float = COMMAND_PATIENCE
) -> Iterator[Services]:
    """The services, if the `needed` stores answer and their data can be used. Else, see stores_of."""
    with stores_of(settings, code):
        check_stores(settings, *needed)
        with closing(Services(settings, patience=patience)) as services:
            yield services


class StoreCommand(click.Command):
    """Checks before the command starts that this version can use the data, and that MongoDB answers: reads and writes
    would retry for much longer.
    """

    def invoke(self, ctx: click.Context) -> Any:
        check_stores(ctx.meta[SETTINGS], "mongodb")
        return super().invoke(ctx)


class Group(click.Group):
    """Commands that use stores. If a store does not answer, they exit with 1."""

    command_class = StoreCommand
    unreachable = 1

    def invoke(self, ctx: click.Context) -> Any:
        settings = ctx.meta[SETTINGS] = ctx.obj
        with stores_of(settings, self.unreachable):
            return super().invoke(ctx)


class VerdictGroup(Group):
    """Commands that exit with 1 if something is wrong.

    If a store does not answer, they exit with 2: the verdict is unknown.
    """

    unreachable = 2


def wait_option(until: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    help_text = f"Seconds to wait until {until}."
    return click.option("--wait", type=click.FloatRange(0), default=300.0, show_default=True, help=help_text)


def services_of(context: click.Context, patience: float = 10.0) -> Services:
    """The services of the group's settings. They are closed when the command ends."""
    services = Services(context.obj, patience=patience)
    context.call_on_close(services.close)
    return services
