"""`make lint`: finds words and patterns that our English avoids, in documentation, docstrings and comments.

Prints file, line and what to write instead. Exits with 1 if it finds any.
"""

import io
import re
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("analytics", "bench", "config", "footfall", "ingest_app", "report_app", "tasks", "tests", "web")
OTHERS = {"clients", "python"}  # folders of programs that we did not write
AVOIDED = {
    r"\b(whoever|whomever)\b": "name the person or the process: you, the visitor, the operator, a process that",
    r"\b(nobody|somebody)\b": "name the person or the process; or: no process, another process",
    r"\bwrong can go\b": "Callers must handle ...; raises ... if ...",
    r"\bIn: .*\bOut: ": "say what the module does",
    r"\bthe books\b": "the ledger",
    r"\b(the|a|an open) door\b": "the collector",
    r"\banew\b": "again; rebuild",
}


def prose_of(file: Path) -> Iterator[tuple[int, str]]:
    """The lines of a page, or of a module's docstrings and comments, with their numbers."""
    text = file.read_text(encoding="utf-8")
    if file.suffix != ".py":
        yield from enumerate(text.splitlines(), start=1)
        return
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        is_docstring = token.type == tokenize.STRING and token.string.startswith('"""')
        if is_docstring or token.type == tokenize.COMMENT:
            yield from enumerate(token.string.splitlines(), start=token.start[0])


def faults(root: Path = ROOT) -> list[str]:
    files = [*root.glob("*.md"), *(root / "docs").rglob("*.md")]
    files += [
        file
        for package in PACKAGES
        for file in (root / package).rglob("*.py")
        if not OTHERS & set(file.relative_to(root).parts)
    ]
    return [
        f"{file.relative_to(root)}:{number}: {found[0]!r}: {instead}"
        for file in sorted(files)
        if file != Path(__file__)
        for number, line in prose_of(file)
        for pattern, instead in AVOIDED.items()
        if (found := re.search(pattern, line, re.IGNORECASE))
    ]


if __name__ == "__main__":
    found = faults()
    print("\n".join(found))
    sys.exit(bool(found))
