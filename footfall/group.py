"""What the groups of commands share: a store that is away, and a mistake, are one line on stderr."""

import sys
from typing import Any, NoReturn

import click

from analytics.unavailable import Unavailable


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
