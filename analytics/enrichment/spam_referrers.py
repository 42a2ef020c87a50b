"""Spam referrers: sites that send false hits so that their names appear in reports.

A host is spam if it, or a host above it, is in a list. The built-in list is short and holds the most common hosts of
many years. A file with one host in each line can add a longer list, such as Matomo's (docs/enrichment.md).
"""

from pathlib import Path

from analytics.enrichment.watched_file import WatchedFile


class SpamReferrers:
    """The hosts of spam referrers. `file` adds more hosts; "" adds none."""

    def __init__(self, file: str = "") -> None:
        self._file: WatchedFile[frozenset[str]] | None = WatchedFile(Path(file), _read) if file else None

    def has(self, hostname: str) -> bool:
        more = self._file.get() if self._file else None
        part = hostname
        while "." in part:
            if part in _KNOWN or (more and part in more):
                return True
            part = part.partition(".")[2]
        return False


def _read(path: Path) -> frozenset[str]:
    lines = (line.strip().lower() for line in path.read_text(encoding="utf-8").splitlines())
    return frozenset(line.removeprefix("www.") for line in lines if "." in line and not line.startswith("#"))


_KNOWN = _read(Path(__file__).parent / "data" / "spam_referrers.txt")
