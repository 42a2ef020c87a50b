"""What was left out of a site's numbers, by reason, from the counts of the ledger. Pure."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from analytics.events.account import AI_CRAWLER, DEAD, DROPPED, DROPPED_LATER, DUPLICATE, REFUSED, REJECTED
from report_app.texts import lazy

_AI = AI_CRAWLER.removesuffix(":")

# The reasons that have a name for people, and what to do if they are a surprise.
_REASONS = {
    "bot": (lazy("Bots and crawlers"), lazy("The user agent is that of a program.")),
    _AI: (
        lazy("AI crawlers"),
        lazy("The user agent is that of a bot that collects texts for AI models or assistants."),
    ),
    "spam_referrer": (lazy("Referrer spam"), lazy("The referrer is a known spam host.")),
    "foreign_hostname": (
        lazy("Other hosts"),
        lazy("The page is not on a domain of the site. Add its host to `domains`."),
    ),
    "excluded_path": (lazy("Excluded pages"), lazy("The page matches `excluded_paths` of the site.")),
    "excluded_address": (lazy("Excluded addresses"), lazy("The address is in `excluded_ips` of the site.")),
    "refused_by_visitor": (lazy("Refused by the visitor"), lazy("The visitor opted out, or sent Do Not Track or GPC.")),
    "origin_not_allowed": (lazy("Other origins"), lazy("The page's origin is not in `allowed_origins` of the site.")),
    "too_old": (lazy("Too old"), lazy("Events without an API key may be as old as `backdate_days` of the site.")),
    "invalid_event": (
        lazy("Invalid events"),
        lazy("A field has the wrong form. Send the event with ?validate=1 to see which."),
    ),
    "event_too_large": (lazy("Too large"), lazy("The event has more bytes than `max_event_bytes` of the site.")),
    DUPLICATE: (lazy("Duplicates"), lazy("The event was sent again with the same id. It counts once.")),
    DEAD: (
        lazy("Dead letters"),
        lazy("The event could not be stored. Read the dead letters, correct them and replay them."),
    ),
}
_KINDS = {
    REJECTED: lazy("The event was rejected: %(reason)s."),
    DROPPED: lazy("The event was dropped: %(reason)s."),
    DROPPED_LATER: lazy("The event was dropped: %(reason)s."),
    REFUSED: lazy("The event was refused for now: %(reason)s."),
}


@dataclass(frozen=True, slots=True)
class LeftOut:
    """The number of events that do not count, for one reason. `why` explains it."""

    name: str
    why: str
    count: int


def left_out(days: Iterable[Counter[str]], *, by_crawler: bool = False) -> list[LeftOut]:
    """The events that do not count, by reason, the most frequent first. `by_crawler`: each AI crawler is a reason."""
    counts: Counter[tuple[str, str]] = Counter()
    for day in days:
        for key, count in day.items():
            if reason := _reason(key, by_crawler=by_crawler):
                counts[reason] += count
    return [LeftOut(name, why, count) for (name, why), count in counts.most_common() if count]


def ai_crawlers_of(days: Iterable[Counter[str]]) -> list[LeftOut]:
    """The events of AI crawlers, by the crawler's name, the most frequent first."""
    begin = f"{DROPPED_LATER}{AI_CRAWLER}"
    summed = sum(days, Counter[str]())
    names = Counter({key.removeprefix(begin): count for key, count in summed.items() if key.startswith(begin)})
    return [LeftOut(name, str(_REASONS[_AI][1]), count) for name, count in names.most_common()]


def count_left_out(day: Counter[str]) -> int:
    """The number of events of a day that do not count."""
    return sum(count for key, count in day.items() if _reason(key))


def _reason(key: str, *, by_crawler: bool = False) -> tuple[str, str] | None:
    """The name and the explanation of a count. None if it counts events that are in reports or still wait."""
    kind, colon, said = key.partition(":")
    reason, _, crawler = said.partition(":")
    text = _KINDS.get(kind + colon)
    known = _REASONS.get(key) or (_REASONS.get(reason) if text else None)
    if known:
        name, why = map(str, known)
        return (f"{name}: {crawler}" if crawler and by_crawler else name), why
    return (reason.replace("_", " ").capitalize(), text % {"reason": reason}) if text else None
