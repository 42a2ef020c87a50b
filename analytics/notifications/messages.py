"""The text of notifications, in English. Pure.

Names and paths come from visitors, so each is one line of printable text, cut to a length. The channels escape what
their format requires.
"""

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

from analytics.notifications.notification import TEST_KIND, Message
from analytics.notifications.rule import Observation, Rule, RuleKind
from analytics.wording import counted

_LONGEST_NAME = 100  # characters of a site, page, source or goal
_LABELS = {
    "visitors": "Visitors",
    "visits": "Visits",
    "pageviews": "Pageviews",
    "views_per_visit": "Views per visit",
    "bounce_rate": "Bounce rate",
    "visit_duration": "Visit duration",
}
_UNITS = {"bounce_rate": "%", "visit_duration": " s"}


def one_line(text: str, longest: int = _LONGEST_NAME) -> str:
    """Return the text as one line that is safe in a header and a terminal."""
    line = "".join(x if x.isprintable() else " " for x in text[: longest + 1])
    return line if len(line) <= longest else f"{line[: longest - 3]}..."


def message_of(rule: Rule, observation: Observation, public_url: str) -> Message:
    """Return what to send. `public_url`: the address of the reporting app, or "", which omits the link."""
    site, data = one_line(rule.site_id), observation.data
    subject, text = _SAID[rule.kind](site, data)
    return _message(rule, public_url, kind=rule.kind, subject=subject, text=text, data=data)


def message_of_test(rule: Rule, public_url: str) -> Message:
    """Return a message that tests the rule's channel."""
    site = one_line(rule.site_id)
    text = f"This tests the rule {rule.id} ({rule.kind}) of {site}. You need not do anything."
    subject = f"{site}: a test notification"
    return _message(rule, public_url, kind=TEST_KIND, subject=subject, text=text, data={})


def _message(rule: Rule, public_url: str, *, kind: str, subject: str, text: str, data: Mapping[str, Any]) -> Message:
    link = f"\n\n{public_url.rstrip('/')}/site/{quote(rule.site_id, safe='')}" if public_url else ""
    return Message(subject, text + link, {"kind": kind, "site_id": rule.site_id, **data})


def _spike(site: str, data: Mapping[str, Any]) -> tuple[str, str]:
    events = counted(data["events"], "event")
    return f"{site}: {events} in the last hour, at most {data['usual']:,} is usual", (
        f"{site} had {events} in the last 60 minutes. In the same 60 minutes of yesterday and of a week before, it had"
        f" at most {data['usual']:,}."
    )


def _drop(site: str, data: Mapping[str, Any]) -> tuple[str, str]:
    events = counted(data["events"], "event")
    return f"{site}: {events} in the last hour, at least {data['usual']:,} is usual", (
        f"{site} had {events} in the last 60 minutes. In the same 60 minutes of yesterday and of a week before, it had"
        f" at least {data['usual']:,}."
    )


def _silence(site: str, data: Mapping[str, Any]) -> tuple[str, str]:
    last, minutes = data["last_event_received"] or "not known", counted(data["minutes"], "minute")
    return f"{site}: no event for {minutes}", (
        f"{site} sent no event for {minutes}. At the same time of yesterday and of a week before, it did. Last event:"
        f" {last}. Check that your pages still load the script."
    )


def _goal(site: str, data: Mapping[str, Any]) -> tuple[str, str]:
    goal, conversions = one_line(data["goal"]), counted(data["conversions"], "conversion")
    since = f"in the {data['period']} that began on {data['first_day']}"
    return f"{site}: {conversions} of {goal}", f"The goal {goal} of {site} has {conversions} {since}."


def _dead_letters(site: str, data: Mapping[str, Any]) -> tuple[str, str]:
    letters = counted(data["events"], "dead letter")
    return f"{site}: {letters}", (
        f"{site} has {letters} among the events that were received on {data['day']} (UTC). A dead letter is an event"
        " that failed permanently. To see why, run `python -m footfall dead-letters list`."
    )


def _lag(site: str, data: Mapping[str, Any]) -> tuple[str, str]:
    minutes, waiting = counted(data["seconds"] // 60, "minute"), counted(data["events_waiting"], "event")
    return f"{site}: events wait for {minutes}", (
        f"The journal has {waiting}, and the oldest has waited for {minutes}. All sites share the journal. Reports lack"
        " these events until workers store them. Check the workers and MongoDB: run `python -m footfall doctor`."
    )


def _summary(site: str, data: Mapping[str, Any]) -> tuple[str, str]:
    visitors = data["figures"]["visitors"]["value"]
    return f"{site}: {counted(visitors, 'visitor')} in the {data['period']} of {data['first_day']}", "\n".join(
        [f"{site}, {data['first_day']} to {data['last_day']}, compared with the {data['period']} before", ""]
        + [_figure_line(name, figure) for name, figure in data["figures"].items()]
        + [line for name in ("pages", "sources", "countries", "goals") for line in _list_lines(name, data.get(name))]
    )


def _figure_line(name: str, figure: Mapping[str, Any]) -> str:
    value, before = figure["value"], figure["before"]
    change = f" ({(value - before) / before:+.0%})" if value is not None and before else ""
    shown = "none" if value is None else f"{value:,}{_UNITS.get(name, '')}"
    return f"{_LABELS[name] + ':':17}{shown}{change}"


def _list_lines(name: str, rows: list[dict[str, Any]] | None) -> Iterator[str]:
    if rows:
        yield from ("", f"{name.capitalize()} by visitors")
        yield from (f"{row['visitors']:>9,}  {one_line(row['name'])}" for row in rows)


_SAID = {
    RuleKind.SPIKE: _spike,
    RuleKind.DROP: _drop,
    RuleKind.SILENCE: _silence,
    RuleKind.GOAL: _goal,
    RuleKind.DEAD_LETTERS: _dead_letters,
    RuleKind.LAG: _lag,
    RuleKind.WEEKLY: _summary,
    RuleKind.MONTHLY: _summary,
}
