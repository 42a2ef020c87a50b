"""`python -m tasks worker` and `python -m tasks beat`: these two commands of Celery, with all of their options.

The command `celery` does the same, and loads all other commands and Flower: 11 MB in each process.
"""

import click
from celery.bin.base import CLIContext
from celery.bin.beat import beat
from celery.bin.worker import worker

from tasks import app


@click.group(commands=[worker, beat])
@click.pass_context
def tasks(context: click.Context) -> None:
    """Start a worker or beat."""
    context.obj = CLIContext(app=app, no_color=True, workdir=None, quiet=True)


if __name__ == "__main__":
    tasks(prog_name="python -m tasks")
