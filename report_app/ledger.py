"""GET /stats/ledger: the outcomes of a site's events, by the UTC day on which they were received."""

from collections.abc import Callable
from dataclasses import asdict
from datetime import date, datetime, timedelta

from flask import Blueprint, Response, jsonify, request

from analytics.events.account import Account
from analytics.journal.audit import Balance, balance_of_ledger
from analytics.journal.ledger import Ledger
from analytics.schema_fields import StrictSchema, Text
from report_app.site_lookup import SiteLookup
from report_app.stats import Day
from web.auth import Check
from web.errors import BadRequest
from web.request_data import read

MOST_DAYS = 400
_DEFAULT_DAYS = timedelta(days=29)


class LedgerQuery(StrictSchema):
    """`from` and `to`: the first and the last day. By default they are the 30 days that end today."""

    site_id = Text(required=True, shortest=1, longest=128)
    first = Day(data_key="from", format="%Y-%m-%d")
    last = Day(data_key="to", format="%Y-%m-%d")


def ledger_blueprint(ledger: Ledger, site_called: SiteLookup, auth: Check, clock: Callable[[], datetime]) -> Blueprint:
    blueprint = Blueprint("ledger", __name__)
    blueprint.before_request(auth)

    @blueprint.get("/stats/ledger")
    def show_ledger() -> Response:
        query = read(LedgerQuery(), request.args)
        site_id = site_called(query["site_id"]).site_id
        first, last = _days(query.get("first"), query.get("last"), clock().date())
        counts = ledger.of_site(site_id, first, last)
        balances = (balance_of_ledger(Account(site_id, day), counts[day]) for day in sorted(counts))
        return jsonify(
            {
                "site_id": site_id,
                "last_event_received": shown_time(ledger.last_received(site_id)),
                "from": first.isoformat(),
                "to": last.isoformat(),
                "days": list(map(_row, balances)),
            }
        )

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


def _row(balance: Balance) -> dict[str, object]:
    counts = {name: value for name, value in asdict(balance).items() if name not in ("account", "is_moving", "faults")}
    return {"date": balance.account.day.isoformat()} | counts
