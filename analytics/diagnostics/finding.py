"""A finding of `footfall doctor`: one sentence with the state, and one with what to do."""

from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

MOST_OFF = 1.0  # second: dates of events come from several clocks, and reports count by day


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of a check. `unchecked` means that a service on which the check depends did not answer, which is a
    separate finding.
    """

    state: Literal["ok", "warning", "problem", "unchecked"]
    what: str
    remedy: str = ""


def ok(what: str) -> Finding:
    return Finding("ok", what)


def warning(what: str, remedy: str) -> Finding:
    return Finding("warning", what, remedy)


def problem(what: str, remedy: str) -> Finding:
    return Finding("problem", what, remedy)


class Unanswered(Exception):
    """A service did not answer, so that the checks that depend on it are not possible."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(finding.what)
        self.finding = finding


@dataclass(frozen=True, slots=True)
class ClockReading:
    """A server's time, and this host's time before and after the query, in seconds since 1970."""

    asked: float
    theirs: float
    answered: float

    def check(self, whose: str) -> Finding:
        """Compare the clocks. The difference is at least what lies outside the round trip."""
        off = max(self.asked - self.theirs, self.theirs - self.answered, 0.0)
        if off > MOST_OFF:
            remedy = "Run an NTP service on both hosts: `timedatectl set-ntp true`."
            return warning(f"This host's clock and {whose}'s are at least {off:.1f} s apart.", remedy)
        return ok(f"This host's clock and {whose}'s agree, within one round trip.")


def megabytes(size: int) -> str:
    return f"{size / 2**20:,.0f} MB"


def without_password(url: str) -> str:
    """Return the scheme, hosts and path of a URL. A password may be before the hosts or in the query."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
