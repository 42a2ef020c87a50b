"""The key that signs the session cookies of the reporting app, for all its processes and hosts."""

import os
import secrets
from contextlib import suppress
from hmac import digest
from pathlib import Path
from tempfile import TemporaryDirectory

from config.settings import Settings

_FILE = "session-key"


def session_keys(settings: Settings) -> list[bytes]:
    """Return the key that signs, and then the one that is still accepted, if there is one.

    They are derived from SECRET_KEY and SECRET_KEY_OLD. If SECRET_KEY is not set, which only development permits, the
    first process creates a key in DATA_DIR. Raises OSError if it cannot.
    """
    given = [key.encode() for key in (settings.secret_key, settings.secret_key_old) if key]
    return [digest(key, b"footfall session cookies", "sha256") for key in given] or [_own_key(Path(settings.data_dir))]


def _own_key(folder: Path) -> bytes:
    """The key in the folder. A process that creates it links a complete file, so that no other reads half of it."""
    file = folder / _FILE
    if not file.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=folder) as private:
            made = Path(private) / _FILE
            made.touch(0o600)
            made.write_bytes(secrets.token_bytes(32))
            with suppress(FileExistsError):
                os.link(made, file)
    return file.read_bytes()
