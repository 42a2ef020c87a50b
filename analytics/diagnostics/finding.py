"""What a check of `footfall doctor` found: how things are in one sentence, and what to do about it in another."""

from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

MOST_OFF = 1.0  # second: dates of events come from several clocks, and reports count by day


@dataclass(frozen=True, slots=True)
class Finding:
    """`unchecked`: what the check depends on did not answer, which is a finding of its own."""

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
    """Somebody could not be asked; nothing that depends on the answer can be checked."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(finding.what)
        self.finding = finding


@dataclass(frozen=True, slots=True)
class ClockReading:
    """A server's time, and ours before and after it was asked. Seconds since 1970."""

    asked: float
    theirs: float
    answered: float

    def check(self, whose: str) -> Finding:
        """It is off by what lies outside the round trip, at least."""
        off = max(self.asked - self.theirs, self.theirs - self.answered, 0.0)
        if off > MOST_OFF:
            remedy = "Run an NTP service on both: `timedatectl set-ntp true`."
            return warning(f"This host's clock and {whose}'s are at least {off:.1f} s apart.", remedy)
        return ok(f"This host's clock and {whose}'s agree, as far as a round trip shows.")


def megabytes(size: int) -> str:
    return f"{size / 2**20:,.0f} MB"


def without_password(url: str) -> str:
    """Scheme, hosts and path of a URL. A password may stand before the hosts and in the query."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
