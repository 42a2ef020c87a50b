"""Dead letters in the console: found, shown without harm, corrected, replayed and purged."""

import re
from html import unescape
from uuid import UUID

from analytics.journal.dead_letters import LetterFilter
from analytics.journal.journal import JOURNAL_KEY
from config.services import Services
from tests.report_app.console.conftest import Tell
from tests.support.accounts import Browser, path_of

HOSTILE = """{"path": "</textarea></pre><script>alert(1)</script><img src=x onerror='alert(1)'>"""
WRONG = '{"site_id": "shop", "event_type": 7}'
LIST = "/ops/dead-letters"


def ids(page: str) -> list[str]:
    return re.findall(f'href="{LIST}/([0-9a-f-]{{36}})"', page)


def letters(services: Services) -> list[UUID]:
    return [letter.id for letter in services.dead_letters.find(LetterFilter())]


def test_letters_are_filtered_by_site_reason_and_time(owner: Browser, tell: Tell):
    tell("not json", WRONG)
    page = owner.get(LIST).text
    assert "2 dead letters" in page
    assert len(ids(page)) == 2
    assert "1 dead letter\n" in owner.get(f"{LIST}?reason=not_json").text.replace("</span>", "\n")
    assert len(ids(owner.get(f"{LIST}?site=shop").text)) == 1
    assert len(ids(owner.get(f"{LIST}?unknown=1").text)) == 1
    assert "No dead letters match." in owner.get(f"{LIST}?before=2020-01-01T00:00").text
    assert len(ids(owner.get(f"{LIST}?before=2999-01-01T00:00%2B02:00").text)) == 2
    for before in ("soon", "0001-01-01T00:00%2B05:00"):
        refused = owner.get(f"{LIST}?before={before}")
        assert (refused.status_code, "before: Write a time as" in refused.text) == (400, True)
    assert owner.get(f"{LIST}?after=x").status_code == 400


def test_a_hostile_payload_is_shown_as_text(owner: Browser, tell: Tell, real: Services):
    tell(HOSTILE, '{"site_id": "<script>alert(2)</script>", "event_type": {"<b>": 1}}')
    for path in (LIST, *(f"{LIST}/{letter}" for letter in letters(real))):
        page = owner.get(path).text
        assert "alert" in page
        assert "<script>" not in page
        assert "<img" not in page
        assert "<b>&#34;" not in page
    (hostile,) = real.dead_letters.find(LetterFilter(reason="not_json"))
    assert HOSTILE in unescape(owner.get(f"{LIST}/{hostile.id}").text)


def test_a_letter_is_replayed_unchanged_or_corrected(owner: Browser, tell: Tell, real: Services):
    tell(WRONG)
    (letter,) = letters(real)
    show, replay = f"{LIST}/{letter}", f"{LIST}/{letter}/replay"
    refused = owner.post(replay, page=show, event='{"site_id": "shop"}')
    assert refused.status_code == 400
    assert "The event was not replayed." in refused.text
    assert "event_type" in refused.text
    assert "Not JSON" in owner.post(replay, page=show, event="{").text
    assert path_of(owner.post(replay, page=show)) == LIST  # unchanged: it fails again
    tell()
    assert real.dead_letters.get(letter).attempts == 2  # type: ignore[union-attr]
    event = '{"site_id": "shop", "event_type": "signup"}'
    assert path_of(owner.post(replay, page=show, event=event)) == LIST
    assert "in the journal again" in owner.get(LIST).text
    tell()
    assert letters(real) == []
    assert real.database["events"].count_documents({"event_type": "signup", "_id": {"$exists": True}}) == 1
    assert owner.get(show).status_code == 404


def test_letters_that_match_are_replayed_together(owner: Browser, tell: Tell, real: Services, redis):
    tell("not json", WRONG, WRONG)
    page = f"{LIST}/replay?site=shop"
    assert "Replay 2 dead letters?" in owner.get(page).text
    assert path_of(owner.post(f"{LIST}/replay", page=page, site="shop")) == LIST
    assert redis.xlen(JOURNAL_KEY) == 2


def test_a_purge_states_the_count_and_purges_nothing_if_it_changed(owner: Browser, tell: Tell, real: Services):
    tell("not json", WRONG)
    page = f"{LIST}/purge?site=shop"
    assert "Purge 1 dead letter?" in owner.get(page).text
    tell(WRONG)
    again = owner.post(f"{LIST}/purge", page=page, site="shop", count="1")
    assert (again.status_code, "Purge 2 dead letters?" in again.text) == (409, True)
    assert len(letters(real)) == 3
    assert path_of(owner.post(f"{LIST}/purge", page=page, site="shop", count="2")) == LIST
    assert "2 dead letters are purged." in owner.get(LIST).text
    assert len(letters(real)) == 1


def test_a_letter_that_was_cut_is_not_replayed_unchanged(owner: Browser, tell: Tell, real: Services):
    tell("x" * 1_000_100)
    (letter,) = letters(real)
    page = owner.get(f"{LIST}/{letter}").text
    assert "only the beginning is stored" in page
    assert "Replay unchanged" not in page
    assert "<textarea" not in page
    assert len(page) < 250_000
    refused = owner.post(f"{LIST}/{letter}/replay", page=f"{LIST}/{letter}")
    assert (refused.status_code, "Only the beginning" in refused.text) == (400, True)


def test_older_letters_follow_on_the_next_page(owner: Browser, tell: Tell):
    tell(*[f"broken {n}" for n in range(60)])
    page = owner.get(LIST).text
    older = re.search(r'rel="next" href="([^"]*)"', page)
    assert older
    rest = owner.get(unescape(older[1])).text
    assert (len(ids(page)), len(ids(rest))) == (50, 10)
    assert set(ids(page)).isdisjoint(ids(rest))
