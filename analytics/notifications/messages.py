"""The text of notifications, in the spoken language. Pure.

Names and paths come from visitors, so each is one line of printable text, cut to a length. The channels escape what
their format requires.
"""

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

from analytics.languages import format_number, gettext, ngettext, translatable
from analytics.notifications.notification import TEST_KIND, Message
from analytics.notifications.rule import Observation, Rule, RuleKind

_LONGEST_NAME = 100  # characters of a site, page, source or goal
_LABELS = {
    "visitors": translatable("Visitors"),
    "visits": translatable("Visits"),
    "pageviews": translatable("Pageviews"),
    "views_per_visit": translatable("Views per visit"),
    "bounce_rate": translatable("Bounce rate"),
    "visit_duration": translatable("Visit duration"),
}
_UNITS = {"bounce_rate": translatable("%(number)s%%"), "visit_duration": translatable("%(number)s s")}
_LISTS = {
    "pages": translatable("Pages by visitors"),
    "sources": translatable("Sources by visitors"),
    "countries": translatable("Countries by visitors"),
    "goals": translatable("Goals by visitors"),
}
# By the period of a goal or a summary.
_GOAL_TEXTS = {
    "day": translatable("The goal %(goal)s of %(site)s has %(conversions)s in the day that began on %(day)s."),
    "week": translatable("The goal %(goal)s of %(site)s has %(conversions)s in the week that began on %(day)s."),
    "month": translatable("The goal %(goal)s of %(site)s has %(conversions)s in the month that began on %(day)s."),
}
_SUMMARY_SUBJECTS = {
    "week": translatable("%(site)s: %(visitors)s in the week of %(day)s"),
    "month": translatable("%(site)s: %(visitors)s in the month of %(day)s"),
}
_SUMMARY_HEADS = {
    "week": translatable("%(site)s, %(first)s to %(last)s, compared with the week before"),
    "month": translatable("%(site)s, %(first)s to %(last)s, compared with the month before"),
}


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
    text = gettext(
        "This tests the rule %(rule)s (%(kind)s) of %(site)s. You need not do anything.",
        rule=rule.id,
        kind=rule.kind,
        site=site,
    )
    subject = gettext("%(site)s: a test notification", site=site)
    return _message(rule, public_url, kind=TEST_KIND, subject=subject, text=text, data={})


def _message(rule: Rule, public_url: str, *, kind: str, subject: str, text: str, data: Mapping[str, Any]) -> Message:
    link = f"\n\n{public_url.rstrip('/')}/site/{quote(rule.site_id, safe='')}" if public_url else ""
    return Message(subject, text + link, {"kind": kind, "site_id": rule.site_id, **data})


def _events(count: int) -> str:
    return ngettext("%(count)s event", "%(count)s events", count)


def _minutes(count: int) -> str:
    return ngettext("%(count)s minute", "%(count)s minutes", count)


def _spike(site: str, data: Mapping[str, Any]) -> tuple[str, str]:
    values = {"site": site, "events": _events(data["events"]), "usual": format_number(data["usual"])}
    return (
        gettext("%(site)s: %(events)s in the last hour, at most %(usual)s is usual", **values),
        gettext(
            "%(site)s had %(events)s in the last 60 minutes. In the same 60 minutes of yesterday and of a week before,"
            " it had at most %(usual)s.",
            **values,
        ),
    )


def _drop(site: str, data: Mapping[str, Any]) -> tuple[str, str]:
    values = {"site": site, "events": _events(data["events"]), "usual": format_number(data["usual"])}
    return (
        gettext("%(site)s: %(events)s in the last hour, at least %(usual)s is usual", **values),
        gettext(
            "%(site)s had %(events)s in the last 60 minutes. In the same 60 minutes of yesterday and of a week before,"
            " it had at least %(usual)s.",
            **values,
        ),
    )


def _silence(site: str, data: Mapping[str, Any]) -> tuple[str, str]:
    last = data["last_event_received"] or gettext("not known")
    values = {"site": site, "minutes": _minutes(data["minutes"]), "last": last}
    return (
        gettext("%(site)s: no event for %(minutes)s", **values),
        gettext(
            "%(site)s sent no event for %(minutes)s. At the same time of yesterday and of a week before, it did. Last"
            " event: %(last)s. Check that your pages still load the script.",
            **values,
        ),
    )


def _goal(site: str, data: Mapping[str, Any]) -> tuple[str, str]:
    conversions = ngettext("%(count)s conversion", "%(count)s conversions", data["conversions"])
    values = {"site": site, "goal": one_line(data["goal"]), "conversions": conversions, "day": data["first_day"]}
    text = _GOAL_TEXTS[data["period"]]
    return (
        gettext("%(site)s: %(conversions)s of %(goal)s", **values),
        gettext(text, **values),
    )


def _dead_letters(site: str, data: Mapping[str, Any]) -> tuple[str, str]:
    letters = ngettext("%(count)s dead letter", "%(count)s dead letters", data["events"])
    return f"{site}: {letters}", gettext(
        "%(site)s has %(letters)s among the events that were received on %(day)s (UTC). A dead letter is an event that"
        " failed permanently. To see why, run `python -m footfall dead-letters list`.",
        site=site,
        letters=letters,
        day=data["day"],
    )


def _lag(site: str, data: Mapping[str, Any]) -> tuple[str, str]:
    values = {"site": site, "minutes": _minutes(data["seconds"] // 60), "waiting": _events(data["events_waiting"])}
    return (
        gettext("%(site)s: events wait for %(minutes)s", **values),
        gettext(
            "The journal has %(waiting)s, and the oldest has waited for %(minutes)s. All sites share the journal."
            " Reports lack these events until workers store them. Check the workers and MongoDB: run `python -m"
            " footfall doctor`.",
            **values,
        ),
    )


def _summary(site: str, data: Mapping[str, Any]) -> tuple[str, str]:
    period, figures = data["period"], data["figures"]
    visitors = ngettext("%(count)s visitor", "%(count)s visitors", figures["visitors"]["value"])
    subject = gettext(_SUMMARY_SUBJECTS[period], site=site, visitors=visitors, day=data["first_day"])
    head = gettext(_SUMMARY_HEADS[period], site=site, first=data["first_day"], last=data["last_day"])
    width = max(len(gettext(label)) for label in _LABELS.values()) + 2
    lines = [f"{gettext(_LABELS[name]) + ':':{width}}{_figure(name, each)}" for name, each in figures.items()]
    lists = [line for name, title in _LISTS.items() for line in _list_lines(title, data.get(name))]
    return subject, "\n".join([head, "", *lines, *lists])


def _figure(name: str, figure: Mapping[str, Any]) -> str:
    value, before = figure["value"], figure["before"]
    if value is None:
        return gettext("none")
    decimals = len(str(value).partition(".")[2])
    shown = gettext(_UNITS.get(name, "%(number)s"), number=format_number(value, decimals))
    if not before:
        return shown
    return f"{shown} ({gettext('%(number)s%%', number=f'{100 * (value - before) / before:+.0f}')})"


def _list_lines(title: str, rows: list[dict[str, Any]] | None) -> Iterator[str]:
    if rows:
        yield from ("", gettext(title))
        yield from (f"{format_number(row['visitors']):>9}  {one_line(row['name'])}" for row in rows)


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
