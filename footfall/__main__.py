"""`python -m footfall`: the commands of the operator. Answers go to stdout, logs to stderr.

A setting that cannot be used ends the process with a message that names it, as in every other process (tasks/app.py).
"""

import click

from config.logs import configure_logging
from config.version import FOOTFALL_VERSION
from footfall.audit import audit_command
from footfall.backup import backup_command, restore_command
from footfall.check import check_command
from footfall.dead_letters import dead_letters
from footfall.demo import demo
from footfall.doctor import doctor
from footfall.imports import import_command, imports_group
from footfall.keys import keys
from footfall.notifications import notifications
from footfall.privacy import purge_command, visitors_group
from footfall.segments import segments_group
from footfall.sites import sites
from footfall.status import rates_command, status_command
from footfall.upgrade import upgrade_command
from footfall.users import users
from footfall.workers import workers_command
from tasks.app import settings


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(FOOTFALL_VERSION, prog_name="Footfall")
@click.pass_context
def footfall(context: click.Context) -> None:
    """Footfall's command line."""
    configure_logging(settings)
    context.obj = settings


for command in (
    audit_command,
    backup_command,
    check_command,
    dead_letters,
    demo,
    doctor,
    import_command,
    imports_group,
    keys,
    notifications,
    purge_command,
    rates_command,
    restore_command,
    segments_group,
    sites,
    status_command,
    upgrade_command,
    users,
    visitors_group,
    workers_command,
):
    footfall.add_command(command)

if __name__ == "__main__":
    footfall(prog_name="python -m footfall")
