"""Writes docs/configuration.md from the settings in config/settings.py: `make docs`.

A test fails if the file is not the one that this module writes.
"""

from collections.abc import Iterator
from dataclasses import Field, fields
from pathlib import Path
from typing import Any

from config.settings import Settings

PAGE = Path(__file__).parents[1] / "docs" / "configuration.md"

_BEFORE_THE_TABLE = """\
<!-- `make docs` writes this file from config/settings.py and config/settings_docs.py. Change those, not this file. -->
# Configuration

Every process reads its settings from the environment and from a file `.env` ([.env.example](../.env.example)). The
file is `.env` in the current folder. If there is none, it is `.env` in the project's folder. The environment overrides
`.env`. An empty value means the default, so an empty value in the environment hides the value in `.env`.

While `make run` is running, every other process in the same folder uses its servers. `make run` writes their addresses
to `servers.json` in `DATA_DIR`, and removes the file when it stops. If you set `REDIS_URL`, `REDIS_HOST`,
`REDIS_SENTINELS` or `MONGODB_URI`, or a `REDIS_PORT` or `MONGODB_PORT` that `make run` was not given, your setting
overrides the file.

`.env` has the syntax of Docker Compose: `NAME=value`, `export`, comments, quotes, and `${NAME}` or `${NAME:-default}`.
Put a value that contains `$`, `#` or a space in single quotes. A process does not start if `.env` cannot be read or if
a value cannot be used. The error names every such value and what is accepted.

`make run`, `make doctor` and Celery's beat warn about names in `.env` that are not settings, and suggest the closest
setting. They ignore names that start with `COMPOSE_`, `DOCKER_`, `BUILDKIT_` or `BUILDX_`, which are Docker's. They
also ignore names that `${NAME}` uses in the file.

Times are in seconds and sizes are in bytes, unless the table says otherwise.

| Name | Default | Meaning |
|---|---|---|
"""


def render_page() -> str:
    return _BEFORE_THE_TABLE + "".join(_rows())


def _rows() -> Iterator[str]:
    setting: Field[Any]
    for setting in fields(Settings):
        default = f"`{setting.default}`" if setting.default != "" else ""
        yield f"| `{setting.name.upper()}` | {default} | {setting.metadata['meaning']} |\n"


if __name__ == "__main__":
    PAGE.write_text(render_page(), encoding="utf-8")
