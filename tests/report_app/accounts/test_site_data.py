"""/data/<site_id>: the rules for paths of stored events, and imports. The test does what the workers do."""

import gzip
import re
import time
from collections.abc import Sequence
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest
from celery.exceptions import SoftTimeLimitExceeded
from gridfs import GridFSBucket
from pymongo.database import Database
from werkzeug.test import TestResponse

from analytics.accounts.store import AccountStore
from analytics.accounts.user import Role
from analytics.enrichment.steps import Lookups
from analytics.imports import upload_worker, uploads
from analytics.imports.uploads import (
    CLAIMED_FOR,
    LARGEST_PART,
    MOST_TRIES,
    MOST_UPLOADS,
    PROGRESS,
    UPLOAD_KEPT_FOR,
    Upload,
)
from analytics.pipeline import store_waiting
from analytics.schema_fields import EARLIEST, LATEST_SENT
from analytics.sites.site import Site
from analytics.unavailable import Unavailable
from config.services import Services
from report_app import site_data
from tests.report_app.accounts.conftest import MakeBrowser
from tests.support.accounts import Browser, Clock, make_member, path_of, token_in
from tests.support.services import tell

SITE = "shop/de"
PAGE = f"/data/{SITE}"
SAMPLE = Path(__file__).parents[2] / "analytics/imports/samples/goatcounter.csv"


@pytest.fixture
def editor(browser: MakeBrowser, accounts: AccountStore) -> Browser:
    make_member(accounts, "ed@example.org", SITE, Role.EDITOR)
    editor = browser()
    editor.sign_in("ed@example.org")
    return editor


def test_an_editor_applies_the_rules_and_the_workers_build_the_months(
    editor: Browser, timed: Services, database: Database[dict[str, Any]]
):
    timed.segments.backfill.note_if_there_is_none()
    timed.sites.put(Site(SITE, path_rules=("/user/:id", "/<b>")))
    refused = editor.post(f"/data-path-rules/{SITE}", page=f"/data/{SITE}")
    assert (refused.status_code, "There are no events of this site." in refused.text) == (400, True)
    tell(database, {"at": "21 10:00:00", "path": "/user/1", "site_id": SITE})
    timed.segments.builder.build_site(SITE, everything=True)
    page = editor.get(f"/data/{SITE}").text
    assert "/user/:id" in page
    assert "&lt;b&gt;" in page
    assert "Stored events follow these rules." not in page
    assert path_of(editor.post(f"/data-path-rules/{SITE}", page=f"/data/{SITE}")) == f"/data/{SITE}"
    page = editor.get(f"/data/{SITE}").text
    assert "The workers build 1 month again." in page
    assert "1 month to build" in page
    assert timed.due_builds.is_any()
    timed.segments.builder.build_due()
    assert "Stored events follow these rules." in editor.get(f"/data/{SITE}").text
    assert timed.segments.store.manifest(SITE).paths == timed.sites.get(SITE).rules_for_paths()
    timed.sites.put(Site(SITE, path_rules=("/user/settings", "/user/:id")))
    assert "Reports use the rules for paths that were applied before" in editor.get(f"/data/{SITE}").text


def upload(browser: Browser, content: bytes, name: str = "history.csv") -> TestResponse:
    return browser.post(f"/data-upload/{SITE}", page=PAGE, file=(BytesIO(content), name))  # type: ignore[arg-type]


def upload_large(browser: Browser, size: int, token: str) -> TestResponse:
    """Sends the body as one text, because the test client does not close a form of megabytes."""
    part = b"--x\r\nContent-Disposition: form-data; name="
    body = part + b'"csrf_token"\r\n\r\n' + token.encode() + b"\r\n"
    body += part + b'"file"; filename="large.csv"\r\n\r\n' + b"x" * size + b"\r\n--x--\r\n"
    return browser.client.post(f"/data-upload/{SITE}", data=body, content_type="multipart/form-data; boundary=x")


def work(services: Services) -> int:
    done = services.upload_worker.work(lambda: None, lambda: None)
    while services.journal.waiting():
        store_waiting(services.stores, "test")
    return done


def found_id(page: str, action: str) -> str:
    found = re.search(f'action="/data-{action}/([0-9a-f]+)/', page)
    assert found, page
    return found[1]


def test_an_editor_uploads_a_file_sees_what_it_holds_imports_it_and_removes_it_again(
    editor: Browser, timed: Services, clock: Clock
):
    assert path_of(upload(editor, SAMPLE.read_bytes(), "<b>.csv")) == PAGE
    assert "A worker reads the file." in editor.get(PAGE).text
    assert timed.uploads.is_any_due()
    assert work(timed) == 1
    page = editor.get(PAGE).text
    assert "&lt;b&gt;.csv" in page
    assert "GoatCounter" in page
    assert len(re.findall("<li><code>{", page)) == 5
    assert timed.events.with_events() == [], "nothing is imported yet"
    upload_id = found_id(page, "import")
    assert path_of(editor.post(f"/data-import/{upload_id}/{SITE}", page=PAGE)) == PAGE
    assert "A worker imports the file." in editor.get(PAGE).text
    assert editor.post(f"/data-import/{upload_id}/{SITE}", page=PAGE).status_code == 404
    assert work(timed) == 1
    (record,) = timed.imports.list(SITE)
    assert record.is_finished
    assert timed.imports.count(record) == record.events == 5
    assert not timed.uploads.list(SITE)
    page = editor.get(PAGE).text
    assert f"{record.events} imported events" in page
    assert path_of(editor.post(f"/data-remove-import/{record.id}/{SITE}", page=PAGE)) == PAGE
    assert "A worker removes it." in editor.get(PAGE).text
    assert timed.imports.is_any_removed()
    clock.forward(seconds=1)
    assert work(timed) == 1
    assert not timed.imports.list(SITE)
    assert timed.events.with_events() == []


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"neither this nor that", "No format fits history.csv."), (gzip.compress(b"x")[:-9], "history.csv: "), (b"", "")],
    ids=["unknown", "damaged", "empty"],
)
def test_a_file_that_cannot_be_imported_says_why_and_can_be_discarded(
    editor: Browser, timed: Services, content: bytes, said: str
):
    upload(editor, content)
    work(timed)
    page = editor.get(PAGE).text
    assert f'<p class="error">{said}' in page
    assert "footfall-upload-" not in page
    assert "data-import/" not in page
    assert path_of(editor.post(f"/data-discard/{found_id(page, 'discard')}/{SITE}", page=PAGE)) == PAGE
    assert timed.uploads.list(SITE) == []


def test_uploads_have_limits(
    editor: Browser,
    timed: Services,
    clock: Clock,
    database: Database[dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
):
    assert editor.post(f"/data-upload/{SITE}", page=PAGE).status_code == 400
    monkeypatch.setattr(site_data, "LARGEST_PART", 100)  # the test client does not close a file of megabytes
    assert upload(editor, b"x" * 101).status_code == 413
    for _ in range(MOST_UPLOADS):
        upload(editor, b"x")
    assert upload(editor, b"x").status_code == 400
    assert len(timed.uploads.list(SITE)) == MOST_UPLOADS
    clock.forward(seconds=UPLOAD_KEPT_FOR.total_seconds() + 60)
    assert timed.uploads.is_any_due()
    timed.uploads.remove_old()
    assert timed.uploads.list(SITE) == []
    assert database["uploads.files"].count_documents({}) == database["uploads.chunks"].count_documents({}) == 0


def test_a_signed_in_user_may_send_a_body_that_is_larger_than_others(
    editor: Browser, browser: MakeBrowser, timed: Services
):
    token = token_in(editor.get(PAGE).text)
    assert path_of(upload_large(editor, 1_000_000, token)) == PAGE
    assert [x.size for x in timed.uploads.list(SITE)] == [1_000_000]
    assert upload_large(editor, LARGEST_PART + 10_000, token).status_code == 413
    assert upload_large(browser(), 1_000_000, token).status_code == 413


def upload_part(browser: Browser, upload_id: str, number: int, content: bytes, *, more: bool = True) -> TestResponse:
    fields = {"upload_id": upload_id, "part": f"{number}"} | ({"more": "on"} if more else {})
    file: Any = (BytesIO(content), "history.csv")
    return browser.post(f"/data-upload/{SITE}", page=PAGE, file=file, **fields)


def test_a_file_that_comes_in_parts_is_read_when_it_is_complete(
    editor: Browser, timed: Services, database: Database[dict[str, Any]]
):
    content = SAMPLE.read_bytes()
    upload_id = upload_part(editor, "", 0, content[:100]).json["upload_id"]
    assert upload_part(editor, upload_id, 2, b"x").status_code == 404
    for _ in range(2):  # the answer was lost, and the browser sends the part again
        assert upload_part(editor, upload_id, 1, content[100:200]).json == {"upload_id": upload_id}
    assert work(timed) == 0
    assert "The file is not complete yet." in editor.get(PAGE).text
    for _ in range(2):
        assert path_of(upload_part(editor, upload_id, 2, content[200:], more=False)) == PAGE
    (found,) = timed.uploads.list(SITE)
    assert (found.state, found.size, len(found.parts)) == ("new", len(content), 3)
    work(timed)
    assert timed.uploads.want(SITE, upload_id)
    work(timed)
    assert [x.events for x in timed.imports.list(SITE)] == [5]
    assert database["uploads.files"].count_documents({}) == database["uploads.chunks"].count_documents({}) == 0


def test_parts_have_limits_and_belong_to_their_site(
    editor: Browser, timed: Services, database: Database[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
):
    theirs = timed.uploads.keep("other", "a.csv", BytesIO(b"x"), is_whole=False)
    assert upload_part(editor, theirs.id, 1, b"x").status_code == 404
    timed.uploads.remove(theirs.id)
    monkeypatch.setattr(uploads, "MOST_PARTS", 2)
    upload_id = upload_part(editor, "", 0, b"x").json["upload_id"]
    assert upload_part(editor, upload_id, 1, b"x").status_code == 200
    assert upload_part(editor, upload_id, 2, b"x").status_code == 413
    upload_id = upload_part(editor, "", 0, b"x").json["upload_id"]
    editor.post(f"/data-discard/{upload_id}/{SITE}", page=PAGE)
    assert upload_part(editor, upload_id, 1, b"x").status_code == 404
    assert database["uploads.files"].count_documents({}) == database["uploads.chunks"].count_documents({}) == 0


def test_the_tables_of_umami_come_together_in_a_zip_archive(editor: Browser, timed: Services):
    archive = BytesIO()
    with ZipFile(archive, "w") as files:
        for name in ("umami_website_event.csv", "umami_session.csv", "umami_event_data.csv"):
            files.write(SAMPLE.with_name(name), name)
    (shown,) = shown_uploads(editor, timed, archive.getvalue())
    assert (shown.state, shown.shown["title"]) == ("shown", "Umami's tables website_event, session and event_data")
    timed.uploads.want(SITE, shown.id)
    work(timed)
    assert [x.is_finished for x in timed.imports.list(SITE)] == [True]
    browsers = {(event.described or {}).get("browser") for event in timed.events.find(SITE, EARLIEST, LATEST_SENT)}
    assert "Chrome" in browsers


def test_a_worker_that_dies_leaves_the_file_to_others_which_give_up_in_the_end(
    editor: Browser, timed: Services, clock: Clock
):
    upload(editor, SAMPLE.read_bytes())
    for _ in range(MOST_TRIES):
        assert timed.uploads.claim()
        assert not timed.uploads.claim(), "it is claimed"
        clock.forward(seconds=CLAIMED_FOR.total_seconds() + 1)
    work(timed)
    assert "It takes too long to read." in editor.get(PAGE).text


def _be_away() -> Lookups:
    raise Unavailable("mongodb", OSError("away"))


def test_an_outage_is_not_one_of_the_tries(editor: Browser, timed: Services):
    upload(editor, SAMPLE.read_bytes())
    away = replace(timed.upload_worker, lookups=_be_away)
    for _ in range(MOST_TRIES + 1):
        with pytest.raises(Unavailable):
            away.work(lambda: None, lambda: None)
    assert (work(timed), [x.state for x in timed.uploads.list(SITE)]) == (1, ["shown"])


def test_a_task_that_is_stopped_leaves_the_file_to_the_next_one(editor: Browser, timed: Services):
    upload(editor, SAMPLE.read_bytes())

    def stop() -> Lookups:
        raise SoftTimeLimitExceeded

    with pytest.raises(SoftTimeLimitExceeded):
        replace(timed.upload_worker, lookups=stop).work(lambda: None, lambda: None)
    claimed = timed.uploads.claim()
    assert claimed
    assert claimed.tries == 2


@pytest.mark.parametrize("rows", [PROGRESS, PROGRESS - 1])
def test_a_try_that_progresses_is_not_one_of_the_last(editor: Browser, timed: Services, clock: Clock, rows: int):
    (shown,) = shown_uploads(editor, timed, SAMPLE.read_bytes())
    timed.uploads.want(SITE, shown.id)
    for _ in range(MOST_TRIES):
        assert timed.uploads.claim()
        clock.forward(seconds=CLAIMED_FOR.total_seconds() + 1)
    timed.imports.save(replace(timed.imports.begin(shown.record, SITE, "goatcounter", ["a.csv"]), rows=rows))
    work(timed)
    assert [x.state for x in timed.uploads.list(SITE)] == ([] if rows == PROGRESS else ["failed"])


def shown_uploads(browser: Browser, services: Services, content: bytes) -> Sequence[Upload]:
    upload(browser, content)
    work(services)
    return services.uploads.list(SITE)


def test_a_long_import_continues_in_the_next_task_and_lets_other_files_go_first(editor: Browser, timed: Services):
    line = '203.0.113.9 - - [02/Nov/2025:00:00:00 +0000] "GET /{} HTTP/1.1" 200 9 "-" "Mozilla/5.0 Firefox/140.0"\n'
    content = "".join(map(line.format, range(2000)))
    (long,) = shown_uploads(editor, timed, content.encode())
    timed.uploads.want(SITE, long.id)
    for rows in (1000, 2000):
        assert timed.upload_worker.work(lambda: time.sleep(1.1), lambda: None, seconds=1.0) == 0
        assert [x.rows for x in timed.imports.list(SITE)] == [rows]
        upload(editor, SAMPLE.read_bytes())
        first = timed.uploads.claim()
        assert first
        assert first.id != long.id
        timed.uploads.remove(first.id)
    assert work(timed) == 1
    assert [(x.is_finished, x.rows) for x in timed.imports.list(SITE)] == [(True, 2000)]


def test_a_file_that_is_to_be_imported_is_neither_discarded_nor_too_old(
    editor: Browser, timed: Services, clock: Clock, database: Database[dict[str, Any]]
):
    (shown,) = shown_uploads(editor, timed, SAMPLE.read_bytes())
    timed.uploads.want(SITE, shown.id)
    assert editor.post(f"/data-discard/{shown.id}/{SITE}", page=PAGE).status_code == 404
    GridFSBucket(database, "uploads").upload_from_stream("left by a crash", b"x")
    clock.forward(seconds=UPLOAD_KEPT_FOR.total_seconds() + 60)
    timed.uploads.remove_old()
    assert [x["_id"] for x in database["uploads.files"].find()] == [shown.id]
    assert work(timed) == 1
    assert [x.events for x in timed.imports.list(SITE)] == [5]


def test_the_bytes_of_an_upload_are_counted_when_they_are_inflated(
    editor: Browser, timed: Services, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(upload_worker, "_MOST_INFLATED", 100_000)
    (found,) = shown_uploads(editor, timed, gzip.compress(SAMPLE.read_bytes() + b"\n" * 100_000))
    said = "history.csv: inflated, it is too large. Import it with `python -m footfall import`."
    assert (found.size < 5_000, found.state, found.said) == (True, "failed", said)


def test_a_parquet_file_is_left_to_the_command(editor: Browser, timed: Services):
    (found,) = shown_uploads(editor, timed, b"PAR1" + b"x" * 100)
    assert found.said == "history.csv: it is a Parquet file. Import it with `python -m footfall import`."


def test_an_import_of_another_site_cannot_be_removed(editor: Browser, timed: Services):
    record = timed.imports.begin("0123456789ab", "other", "umami", ["a.csv"])
    assert editor.post(f"/data-remove-import/{record.id}/{SITE}", page=PAGE).status_code == 404
    assert not timed.imports.is_any_removed()
    theirs = timed.uploads.keep("other", "a.csv", BytesIO(b"x"))
    editor.post(f"/data-discard/{theirs.id}/{SITE}", page=PAGE)
    assert editor.post(f"/data-import/{theirs.id}/{SITE}", page=PAGE).status_code == 404
    assert [(x.id, x.state) for x in timed.uploads.list("other")] == [(theirs.id, "new")]
