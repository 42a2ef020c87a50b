"""`python -m footfall backup` and `restore`: a copy of all data and settings, and a system that is made from it.

Both exit with 0 if everything is copied, and with 1 otherwise.
"""

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import fields, replace
from pathlib import Path
from subprocess import DEVNULL
from typing import Any

import click

from analytics.backup.archive import BackupError, read_manifest
from analytics.backup.backup import make_backup
from analytics.backup.restore import restore_backup
from analytics.diagnostics.redis import others_connected
from config.services import Services
from config.settings import Settings
from config.version import FOOTFALL_VERSION
from footfall.command_group import check_stores, fail, stores_of
from footfall.embedded_servers import Server
from footfall.folder_lock import FolderLock
from footfall.start_error import StartError
from footfall.store_checks import check_store
from footfall.supervised_process import end_with_parent
from footfall.supervisor import embedded_servers

_REDIS_PATIENCE = 10.0  # seconds for one answer; Redis copies the whole journal in one step
_MONGODB_PATIENCE = 60.0  # seconds for one answer
_STOP_LIMIT = 60.0  # seconds

_FOLDER_PATH = click.Path(path_type=Path, file_okay=False)


@click.command("backup")
@click.argument("folder", type=_FOLDER_PATH)
@click.pass_obj
def backup_command(settings: Settings, folder: Path) -> None:
    """Write a backup into a new folder, while events arrive.

    FOLDER is complete as soon as it exists. It holds all data, and the settings with their secrets.
    """
    with _failing_in_one_line(settings):
        check_stores(settings, "mongodb", "redis")
        with _services(settings) as services:
            stores = services.backup_stores
            with click.progressbar(length=stores.count(), label="Copying", file=sys.stderr) as bar:
                made = make_backup(
                    stores, folder, version=FOOTFALL_VERSION, settings=settings_text(settings), wrote=bar.update
                )
    size = sum(file.bytes for file in made.files.values())
    click.echo(f"{folder}: {made.documents:,} documents in {size:,} bytes. It holds secrets: only you can read it.")


@click.command("restore")
@click.argument("folder", type=_FOLDER_PATH)
@click.pass_obj
def restore_command(settings: Settings, folder: Path) -> None:
    """Restore a backup into empty stores, while no process of Footfall runs.

    If MongoDB or Redis is not set, it is started in DATA_DIR for this time, as `make run` does.
    """
    with _failing_in_one_line(settings):
        manifest = read_manifest(folder)
        with _stores_running(settings) as running, _services(running) as services:
            for store in ("mongodb", "redis"):
                check_store(running, store)
            if names := others_connected(services.redis):
                raise BackupError(f"Processes of Footfall use this Redis: {', '.join(names)}. Stop them first.")
            with click.progressbar(length=manifest.documents, label="Restoring", file=sys.stderr) as bar:
                restore_backup(folder, manifest, services.backup_stores, bar.update)
    click.echo("Restored. Start Footfall. Its settings are in settings.env of the backup. Everyone signs in again.")


def settings_text(settings: Settings) -> str:
    """The settings that differ from their defaults, with secrets, in the syntax of `.env`."""
    ours = {"mongodb_uri": settings.starts_mongodb, "redis_url": settings.starts_redis}  # addresses of `make run`
    changed = [x for x in fields(settings) if not ours.get(x.name) and getattr(settings, x.name) != x.default]
    return "".join(f"{x.name.upper()}={_quoted(str(getattr(settings, x.name)))}\n" for x in changed)


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


@contextmanager
def _services(settings: Settings) -> Iterator[Services]:
    patient = replace(settings, redis_timeout=max(settings.redis_timeout, _REDIS_PATIENCE))
    with closing(Services(patient, patience=_MONGODB_PATIENCE)) as services:
        yield services


@contextmanager
def _failing_in_one_line(settings: Settings) -> Iterator[None]:
    try:
        with stores_of(settings):
            yield
    except (BackupError, StartError) as error:
        fail(str(error), 1)
    except OSError as error:
        fail(f"{error.strerror or error}: {error.filename}" if error.filename else str(error), 1)


@contextmanager
def _stores_running(settings: Settings) -> Iterator[Settings]:
    """Start the servers that `make run` would start. Yields the settings with their addresses. Raises StartError."""
    if not (settings.starts_redis or settings.starts_mongodb):
        yield settings
        return
    data = Path(settings.data_dir).resolve()
    lock = FolderLock(data, "`make run`")
    addresses: dict[str, Any] = {}
    with ExitStack() as stack:
        for server, its_lock in embedded_servers(settings, data):
            stack.enter_context(_running(server, its_lock))
            addresses[server.setting.lower()] = server.url
        yield replace(settings, **addresses)
    del lock


@contextmanager
def _running(server: Server, lock: FolderLock) -> Iterator[None]:
    """Run a server. It stops after the block, or when this process is killed."""
    command = [*end_with_parent(signal.SIGTERM), *server.command]
    with subprocess.Popen(command, stdout=DEVNULL, stderr=DEVNULL, pass_fds=[lock.fileno()]) as process:
        try:
            server.wait_until_ready()
            yield
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(_STOP_LIMIT)
