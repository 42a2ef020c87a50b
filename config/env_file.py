"""Reads `.env`, the file of settings.

The file is `.env` in the current folder, or if there is none, in the project's folder. The syntax is that of Docker
Compose: `NAME=value`, `export`, comments, single and double quotes, and `${NAME}` or `${NAME:-default}` outside single
quotes. If a name is set twice, the last value counts.

Callers must handle EnvFileError: a file exists and cannot be used. Messages name lines and never quote them, because
they may be secret.
"""

import io
import os
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass, field
from pathlib import Path

from dotenv.parser import Binding, parse_stream
from dotenv.variables import Atom, Literal, Variable, parse_variables

PROJECT = Path(__file__).resolve().parent.parent
_LARGEST = 1_000_000  # bytes


class EnvFileError(Exception):
    """The file cannot be used. The message says why, and what to do."""


@dataclass(frozen=True)
class EnvFile:
    path: Path | None = None
    values: Mapping[str, str] = field(default_factory=dict, repr=False)
    lines: Mapping[str, list[int]] = field(default_factory=dict)  # on which each name is set, counted from 1
    used: Set[str] = frozenset()  # names that `${NAME}` uses


def read_env_file(environment: Mapping[str, str]) -> EnvFile:
    """The content of the file, empty if there is none. `environment` overrides the file's values in `${NAME}`.

    Raises EnvFileError.
    """
    path = next((folder / ".env" for folder in (Path.cwd(), PROJECT) if os.path.lexists(folder / ".env")), None)
    if path is None:
        return EnvFile()
    values: dict[str, str] = {}
    lines: dict[str, list[int]] = {}
    used: set[str] = set()
    for line, binding in _bindings(path):
        # A comment, or a name without a value, which the environment sets.
        if binding.key is None or binding.value is None:
            continue
        parts = _parts(binding)
        values[binding.key] = _joined(parts, environment, values, f"line {line} of {path}")
        used |= {part.name for part in parts if isinstance(part, Variable)}
        lines.setdefault(binding.key, []).append(line)
    return EnvFile(path, values, lines, used)


def _bindings(path: Path) -> Iterator[tuple[int, Binding]]:
    for binding in parse_stream(io.StringIO(_text(path))):
        text = binding.original.string
        line = binding.original.line + text[: len(text) - len(text.lstrip())].count("\n")
        if binding.error:
            raise EnvFileError(f"line {line} of {path} is not NAME=value, or a quote is not closed")
        yield line, binding


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST + 1)
    except OSError as error:
        raise EnvFileError(f"{path} cannot be read: {error.strerror}; correct it or remove it") from None
    if len(content) > _LARGEST:
        raise EnvFileError(f"{path} is larger than {_LARGEST:,} bytes, so it is not a file of settings")
    try:
        text = content.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise EnvFileError(f"{path} is not UTF-8 text at byte {error.start}; save it as UTF-8") from None
    if "\0" in text:
        raise EnvFileError(f"{path} has a NUL character; save it as UTF-8 text")
    return text


def _parts(binding: Binding) -> list[Atom]:
    is_literal = binding.original.string.partition("=")[2].lstrip().startswith("'")
    return [Literal(binding.value or "")] if is_literal else list(parse_variables(binding.value or ""))


def _joined(parts: list[Atom], environment: Mapping[str, str], values: Mapping[str, str], where: str) -> str:
    known = {**values, **environment}
    for part in parts:
        if isinstance(part, Variable) and part.default is None and part.name not in known:
            raise EnvFileError(
                f"{where} uses ${{{part.name}}}, which is not set; set it above, or use single quotes if the value"
                " contains it literally"
            )
    given = {name: value for name, value in known.items() if value}  # a default also replaces an empty value
    return "".join(part.resolve(given) for part in parts)
