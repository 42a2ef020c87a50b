"""GET /stats/ledger: the outcomes of a site's events, by the UTC day on which they were received."""

from collections.abc import Callable
from datetime import date, datetime, timedelta
from typing import Annotated, TypedDict

from flask import Blueprint, request

from analytics.events.account import Account
from analytics.journal.audit import Balance, balance_of_ledger
from analytics.journal.ledger import Ledger
from analytics.json_schema import Count, DayText, MomentText
from analytics.schema_fields import StrictSchema, Text
from report_app.errors import OF_QUESTIONS
from report_app.site_lookup import SITE_EXAMPLE, SiteLookup
from report_app.stats import OVERVIEW, Day
from web.auth import Check
from web.errors import BadRequest
from web.openapi import Operation, described_by
from web.request_data import read

MOST_DAYS = 400
_DEFAULT_DAYS = timedelta(days=29)


class LedgerQuery(StrictSchema):
    """`from` and `to`: the first and the last day. By default they are the 30 days that end today."""

    site_id = Text(required=True, shortest=1, longest=128)
    first = Day(data_key="from", format="%Y-%m-%d")
    last = Day(data_key="to", format="%Y-%m-%d")


class LedgerDay(TypedDict):
    date: DayText
    received: Count
    rejected: dict[str, Count]
    dropped: dict[str, Count]
    accepted: Count
    replayed: Count
    imported: Count
    stored: Count
    duplicate: Count
    dead: Count
    dropped_later: dict[str, Count]
    waiting: Count
    refused: dict[str, Count]


LastReceived = Annotated[MomentText | None, "When Footfall last accepted an event of the site."]
LedgerJson = TypedDict(
    "LedgerJson",
    {"site_id": str, "last_event_received": LastReceived, "from": DayText, "to": DayText, "days": list[LedgerDay]},
)

_LEDGER = Operation(
    summary="Counts of received, stored, dropped and dead events, and the time of the last event",
    tag=OVERVIEW,
    note="The ledger counts events by the UTC day on which they were received. Days without events are left out. "
    f"The limit is {MOST_DAYS} days. The default is the last 30 days, including today.",
    query=LedgerQuery,
    says=OF_QUESTIONS,
    examples={"site_id": SITE_EXAMPLE},
)


def ledger_blueprint(ledger: Ledger, site_called: SiteLookup, auth: Check, clock: Callable[[], datetime]) -> Blueprint:
    blueprint = Blueprint("ledger", __name__)
    blueprint.before_request(auth)

    @blueprint.get("/stats/ledger")
    @described_by(_LEDGER)
    def show_ledger() -> LedgerJson:
        query = read(LedgerQuery(), request.args)
        site_id = site_called(query["site_id"]).site_id
        first, last = _days(query.get("first"), query.get("last"), clock().date())
        counts = ledger.of_site(site_id, first, last)
        balances = (balance_of_ledger(Account(site_id, day), counts[day]) for day in sorted(counts))
        return {
            "site_id": site_id,
            "last_event_received": shown_time(ledger.last_received(site_id)),
            "from": first.isoformat(),
            "to": last.isoformat(),
            "days": list(map(_row, balances)),
        }

    return blueprint


def shown_time(moment: datetime | None) -> str | None:
    return moment.isoformat(timespec="milliseconds") if moment else None


def _days(first: date | None, last: date | None, today: date) -> tuple[date, date]:
    """The first and the last day. Raises BadRequest if they are not 1 to MOST_DAYS days."""
    last = last or today
    first = first or last - _DEFAULT_DAYS
    if not first <= last < first + timedelta(days=MOST_DAYS):
        said = f"The period does not have 1 to {MOST_DAYS} days: `to` is {last.isoformat()}."
        raise BadRequest("invalid_query", "The request is not valid: see from.", {"from": [said]})
    return first, last


def _row(balance: Balance) -> LedgerDay:
    return {
        "date": balance.account.day.isoformat(),
        "received": balance.received,
        "rejected": balance.rejected,
        "dropped": balance.dropped,
        "accepted": balance.accepted,
        "replayed": balance.replayed,
        "imported": balance.imported,
        "stored": balance.stored,
        "duplicate": balance.duplicate,
        "dead": balance.dead,
        "dropped_later": balance.dropped_later,
        "waiting": balance.waiting,
        "refused": balance.refused,
    }
