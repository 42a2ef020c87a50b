"""/ops/ledger: what became of the events of all sites on one day, or of one site day by day."""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import date, datetime

from flask import Response, abort, request

from analytics.events.account import Account
from analytics.journal.audit import Balance, balance_of_ledger
from analytics.journal.ledger import Ledger
from analytics.languages import gettext
from analytics.queries.periods import ONE_DAY
from analytics.queries.query_schema import day_of
from report_app.console.console_page import console_page
from report_app.page_blueprint import PageBlueprint

MOST_ACCOUNTS = 500  # of the table: the sites with the most events
SITE_DAYS = 30
FIRST_DAY = date(2000, 1, 1)
COLUMNS = ("received", "replayed", "imported", "accepted", "stored", "duplicate", "dead", "waiting", "left out")


@dataclass(frozen=True, slots=True)
class LedgerRow:
    """`counts` are those of COLUMNS. `reasons` has the events that were left out by reason."""

    site_id: str
    day: date
    counts: tuple[int, ...]
    reasons: list[tuple[str, int]]


def add_ledger(blueprint: PageBlueprint, ledger: Ledger, clock: Callable[[], datetime]) -> None:
    @blueprint.get("/ops/ledger", endpoint="ledger")
    def ledger_page() -> Response:
        today, site_id = clock().date(), request.args.get("site", "")
        return _of_site(ledger, site_id, today) if site_id else _of_day(ledger, _asked_day(today), today)


def _of_site(ledger: Ledger, site_id: str, today: date) -> Response:
    days = ledger.of_site(site_id, today - (SITE_DAYS - 1) * ONE_DAY, today)
    rows = rows_of((Account(site_id, day), days[day]) for day in sorted(days, reverse=True))
    return console_page("ledger", columns=COLUMNS, rows=rows, more=0, site_id=site_id, day=today, today=today)


def _of_day(ledger: Ledger, day: date, today: date) -> Response:
    rows = sorted(rows_of(ledger.of_days(day, day).items()), key=lambda row: (-row.counts[0], row.site_id))
    shown, more = rows[:MOST_ACCOUNTS], max(0, len(rows) - MOST_ACCOUNTS)
    before, after = day - ONE_DAY, day + ONE_DAY
    return console_page(
        "ledger", columns=COLUMNS, rows=shown, more=more, day=day, before=before, after=after, today=today
    )


def rows_of(accounts: Iterable[tuple[Account, Counter[str]]]) -> list[LedgerRow]:
    return [_row(balance_of_ledger(account, counts)) for account, counts in accounts]


def _row(of: Balance) -> LedgerRow:
    reasons = Counter(of.rejected) + Counter(of.dropped) + Counter(of.dropped_later)
    counts = (
        *(of.received, of.replayed, of.imported, of.accepted, of.stored, of.duplicate, of.dead, of.waiting),
        sum(reasons.values()),
    )
    return LedgerRow(of.account.site_id, of.account.day, counts, reasons.most_common())


def _asked_day(today: date) -> date:
    """Ends the request with 400 if it is not a past day."""
    day = day_of(request.args.get("day") or today.isoformat())
    if day is None or not FIRST_DAY <= day <= today:
        abort(400, gettext("day: Write a day as 2026-11-28. It cannot be in the future."))
    return day
