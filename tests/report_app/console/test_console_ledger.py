"""The ledger by site and by day."""

import re
from html import unescape

from analytics.events.account import REJECTED, Account
from analytics.journal.journal import Line
from config.services import Services
from report_app.console import ledger
from tests.report_app.console.conftest import Tell
from tests.support.accounts import Browser, Clock


def table(page: str) -> list[list[str]]:
    """The texts of the cells of each row."""
    rows = re.findall("<tr>(.*?)</tr>", page.partition("<tbody>")[2], re.DOTALL)
    cells = ([re.sub("<[^>]*>", "", cell) for cell in re.findall("<t[hd][^>]*>(.*?)</t[hd]>", row)] for row in rows)
    return [[unescape(cell) for cell in row] for row in cells]


def test_a_day_lists_its_sites_and_a_site_lists_its_days(owner: Browser, real: Services, tell: Tell, clock: Clock):
    tell({"event_id": "1"}, {"event_id": "1"}, {"site_id": "<b>other</b>"})
    today = real.now().date()
    real.journal.append([Line(Account("shop", today), f"{REJECTED}invalid_event", count=3)])
    page = owner.get("/ops/ledger").text
    assert table(page) == [
        ["shop", "5", "0", "0", "2", "1", "1", "0", "0", "3", "3 invalid_event"],
        ["<b>other</b>", "1", "0", "0", "1", "1", "0", "0", "0", "0", ""],
    ]
    assert "<b>other" not in page
    assert table(owner.get("/ops/ledger?site=shop").text) == [
        [today.strftime("%a %d %b %Y"), "5", "0", "0", "2", "1", "1", "0", "0", "3", "3 invalid_event"]
    ]
    assert table(owner.get("/ops/ledger?day=2020-02-29").text) == []
    assert "No events on this day" in owner.get("/ops/ledger?day=2020-02-29").text
    clock.forward(days=3)
    real.ledger.carry(before=real.now().date())  # to MongoDB
    assert len(table(owner.get(f"/ops/ledger?day={today}").text)) == 2


def test_a_day_that_cannot_be_read_is_named(owner: Browser):
    answer = owner.get("/ops/ledger?day=yesterday")
    assert answer.status_code == 400
    assert "day: Write a day as 2026-11-28." in answer.text
    for day in ("0001-01-01", "9999-12-31", "20200229", "2020-W09-6"):
        assert owner.get(f"/ops/ledger?day={day}").status_code == 400, day


def test_sites_that_are_too_many_are_counted(owner: Browser, real: Services, monkeypatch):
    monkeypatch.setattr(ledger, "MOST_ACCOUNTS", 2)
    today = real.now().date()
    real.journal.append([Line(Account(name, today), f"{REJECTED}x", count=n) for n, name in enumerate("abcd", 1)])
    page = owner.get("/ops/ledger").text
    assert [row[0] for row in table(page)] == ["d", "c"]
    assert "2 sites with fewer events are not shown" in page
