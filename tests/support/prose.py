"""`make lint`: finds words and patterns that our English avoids, in documentation, docstrings and comments, and long
lines of documentation.

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

LONGEST_LINE = 125  # characters, in Markdown


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


def long_lines(file: Path) -> Iterator[int]:
    """The numbers of lines of a page that could be broken. Tables, code and lines without a space may be long."""
    is_code = False
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
        is_code ^= line.lstrip().startswith("```")
        is_text = not is_code and not line.lstrip().startswith(("|", "![")) and not line.startswith("    ")
        if is_text and len(line) > LONGEST_LINE and " " in line[:LONGEST_LINE].lstrip(" -"):
            yield number


def faults(root: Path = ROOT) -> list[str]:
    pages = [*root.glob("*.md"), *(root / "docs").rglob("*.md")]
    modules = [
        file
        for package in PACKAGES
        for file in (root / package).rglob("*.py")
        if not OTHERS & set(file.relative_to(root).parts)
    ]
    found = [
        f"{page.relative_to(root)}:{number}: more than {LONGEST_LINE} characters: break the line"
        for page in sorted(pages)
        for number in long_lines(page)
    ]
    return found + [
        f"{file.relative_to(root)}:{number}: {found[0]!r}: {instead}"
        for file in sorted(pages + modules)
        if file != Path(__file__)
        for number, line in prose_of(file)
        for pattern, instead in AVOIDED.items()
        if (found := re.search(pattern, line, re.IGNORECASE))
    ]


if __name__ == "__main__":
    found = faults()
    print("\n".join(found))
    sys.exit(bool(found))
