"""`python -m footfall`: the commands of the operator. Answers go to stdout, logs to stderr.

A setting that cannot be used ends the process with a message that names it, as in every other process (tasks/app.py).
"""

import click

from config.logs import configure_logging
from footfall.audit import audit_command
from footfall.dead_letters import dead_letters
from footfall.doctor import doctor
from footfall.keys import keys
from footfall.notifications import notifications
from footfall.privacy import purge_command, visitors_group
from footfall.segments import segments_group
from footfall.sites import sites
from footfall.users import users
from tasks.app import settings


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.pass_context
def footfall(context: click.Context) -> None:
    """Footfall's command line."""
    configure_logging(settings)
    context.obj = settings


for command in (
    audit_command,
    dead_letters,
    doctor,
    keys,
    notifications,
    purge_command,
    segments_group,
    sites,
    users,
    visitors_group,
):
    footfall.add_command(command)

if __name__ == "__main__":
    footfall(prog_name="python -m footfall")
