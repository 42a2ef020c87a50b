"""`python -m footfall.flower`: Flower, with all of its options.

`celery --app tasks flower` does the same, and needs 25 MB more: it loads the tasks, the clients of the stores and all
other commands of Celery, which Flower does not use.
"""

import sys

import click
from celery import Celery
from celery.bin.base import CLIContext
from flower.command import flower

from config import metrics as _metrics  # noqa: F401 (it creates the folder of Flower's own metrics)
from config.celery import celery_settings
from config.settings import load_settings_or_exit

app = Celery("footfall")
app.conf.update(celery_settings(load_settings_or_exit(with_flower=True)))


@click.group(commands=[flower])
@click.pass_context
def commands(context: click.Context) -> None:
    context.obj = CLIContext(app=app, no_color=True, workdir=None, quiet=True)


if __name__ == "__main__":
    commands(["flower", "--conf=config/flower.py", *sys.argv[1:]])
