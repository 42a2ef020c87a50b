"""Finds the known name that is closest to an unknown setting, field or site, for messages. Pure."""

from collections.abc import Iterable
from difflib import get_close_matches

from analytics.languages import translatable

_LONGEST = 100  # characters; the time of a comparison grows with the product of both lengths
SIMILAR = 0.7  # of 1.0; a typing error is above it, a different word below
IGNORED = str.maketrans("", "", "_-. ")


def closest(name: str, known: Iterable[str], similar: float = SIMILAR) -> str | None:
    """Return the closest known name, or None. It ignores case and word separators, so `timeZone`, `time-zone` and
    `time_zone` are all close to `timezone`.
    """
    if len(name) > _LONGEST:
        return None
    by_plain_name = {_plain(each): each for each in known}
    found = get_close_matches(_plain(name), by_plain_name, n=1, cutoff=similar)
    return by_plain_name[found[0]] if found else None


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return a sentence such as " Did you mean 'timezone'?", to append to a message. Return "" if no known name is
    close.

    `known` must hold only names that the reader of the message may see.
    """
    found = closest(name, known)
    return "" if found is None else translatable(" Did you mean %(name)s?", name=repr(found))


def _plain(name: str) -> str:
    return name.translate(IGNORED).casefold()
