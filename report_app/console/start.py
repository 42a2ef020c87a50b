"""/ops: the health of the deployment at a glance. Each part asks its own store, and asks again every few seconds."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from flask import Response, render_template

from analytics.journal.totals import totals_of
from analytics.languages import ngettext
from analytics.unavailable import Unavailable
from config.services import Services
from report_app.console.commands import Commands
from report_app.console.console_page import console_page
from report_app.page_blueprint import PageBlueprint
from report_app.pages.rendering import show
from report_app.texts import lazy
from report_app.trouble import trouble_of

Read = Callable[[], dict[str, Any]]

TITLES = {
    "journal": lazy("Journal"),
    "today": lazy("Today"),
    "segments": lazy("Segments"),
    "findings": lazy("Findings"),
}


def add_start(blueprint: PageBlueprint, services: Services, commands: Commands) -> None:
    readers: dict[str, Read] = {
        "journal": lambda: _journal(services),
        "today": lambda: _today(services),
        "segments": lambda: _segments(services),
        "findings": lambda: _findings(commands),
    }

    @blueprint.get("/ops")
    def start() -> Response:
        """The page. The findings follow, because they take seconds."""
        quick = {name: _html(name, read) for name, read in readers.items() if name != "findings"}
        return console_page("start", titles=TITLES, parts=quick)

    for name, read in readers.items():
        blueprint.add_url_rule(f"/parts/ops/{name}", f"part_{name}", _view(name, read))


def _view(name: str, read: Read) -> Callable[[], Response]:
    return lambda: show(f"console/part_{name}.html", **read())


def _html(name: str, read: Read) -> str:
    """A part of the page. If its store does not answer, the part says so, and the others stay."""
    try:
        return render_template(f"console/part_{name}.html", **read())
    except Unavailable as error:
        return render_template("trouble.html", trouble=trouble_of(error), again=f"/parts/ops/{name}")


def _journal(services: Services) -> dict[str, Any]:
    oldest = services.journal.oldest()
    return {"waiting": services.journal.waiting(), "oldest": ago(services.now() - oldest) if oldest else None}


def _today(services: Services) -> dict[str, Any]:
    today = services.now().date()
    counts = services.ledger.of_days(today, today)
    return {"totals": totals_of(counts.values()), "sites": len(counts), "today": today}


def _segments(services: Services) -> dict[str, Any]:
    now = services.now()
    dirty, due = services.due_builds.waiting()
    return {"dirty": dirty, "due": due, "late": ago(now - due.since) if due.since else None}


def _findings(commands: Commands) -> dict[str, Any]:
    checks = commands.answer("doctor")["checks"]
    wrong = [check for check in checks if check["state"] != "ok"]
    workers = next(check for check in checks if check["check"] == "workers")
    return {"wrong": sorted(wrong, key=_gravity), "workers": workers, "count": len(checks)}


def ago(past: timedelta) -> str:
    """How long ago: "12 s", "5 min", "3 h", "2 days"."""
    seconds = max(0, int(past.total_seconds()))
    if seconds >= 2 * 86_400:
        return ngettext("%(count)s day", "%(count)s days", seconds // 86_400)
    for size, unit in ((3_600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


def _gravity(check: dict[str, str]) -> int:
    return ("problem", "warning", "unchecked").index(check["state"])
