"""`python -m footfall`: the commands of the operator. Answers go to stdout, logs to stderr.

A setting that cannot be used ends the process with a message that names it, as in every other process (tasks/app.py).
"""

from collections.abc import Iterator, Mapping
from importlib import import_module

import click

from config.logs import configure_logging
from config.settings import load_settings_or_exit
from config.version import FOOTFALL_VERSION

_PLACES = {  # of each command: its module in this package, and its name there
    "archive": "archive.archive_group",
    "audit": "audit.audit_command",
    "backup": "backup.backup_command",
    "check": "check.check_command",
    "dead-letters": "dead_letters.dead_letters",
    "demo": "demo.demo",
    "doctor": "doctor.doctor",
    "export": "export.export_command",
    "import": "imports.import_command",
    "imports": "imports.imports_group",
    "journals": "journals.journals_group",
    "keys": "keys.keys",
    "notifications": "notifications.notifications",
    "purge": "privacy.purge_command",
    "rates": "status.rates_command",
    "restore": "backup.restore_command",
    "segments": "segments.segments_group",
    "shard": "shard.shard_command",
    "sites": "sites.sites",
    "status": "status.status_command",
    "upgrade": "upgrade.upgrade_command",
    "users": "users.users",
    "visitors": "privacy.visitors_group",
    "workers": "workers.workers_command",
}


class _Commands(Mapping[str, click.Command]):
    """The commands by name. A module is imported when its command is used: all of them together take a second."""

    def __getitem__(self, name: str) -> click.Command:
        module, _, variable = _PLACES[name].partition(".")
        command: click.Command = getattr(import_module(f"footfall.{module}"), variable)
        return command

    def __iter__(self) -> Iterator[str]:
        return iter(_PLACES)

    def __len__(self) -> int:
        return len(_PLACES)


@click.group(commands=_Commands(), context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(FOOTFALL_VERSION, prog_name="Footfall")
@click.pass_context
def footfall(context: click.Context) -> None:
    """Footfall's command line."""
    context.obj = load_settings_or_exit()
    configure_logging(context.obj)


if __name__ == "__main__":
    footfall(prog_name="python -m footfall")
