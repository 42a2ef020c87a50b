"""Segments by site, and a rebuild that the workers do."""

from config.services import Services
from tests.report_app.console.conftest import Tell
from tests.report_app.console.test_console_ledger import table
from tests.support.accounts import Browser, path_of


def test_sizes_and_dirty_hours_are_shown_and_a_rebuild_is_left_to_the_workers(
    owner: Browser, real: Services, tell: Tell
):
    real.segments.backfill.note_if_there_is_none()
    tell({}, {"site_id": "other"})
    real.segments.builder.build_site("shop", everything=True)
    rows = {row[0]: row[1:] for row in table(owner.get("/ops/segments").text)}
    assert rows["shop"][:2] == ["1", "1"]
    assert rows["shop"][3] == "0"
    assert rows["other"][:4] == ["0", "0", "0 bytes", "1"]
    before = real.segments.store.manifest("shop").segments[0].version
    assert path_of(owner.post("/ops/segments/rebuild", page="/ops/segments", site="shop")) == "/ops/segments"
    page = owner.get("/ops/segments?site=shop").text
    assert [row[-1] for row in table(page)] == ["1 month to build"]
    assert "The workers build 1 month of shop again." in page
    assert real.due_builds.is_any()
    assert real.segments.backfill.left("shop") == [], "reports use the old segments until then"
    real.segments.builder.build_due()
    assert not real.due_builds.backfill.of_sites()
    assert real.segments.store.manifest("shop").segments[0].version != before
    assert table(owner.get("/ops/segments?site=nobody").text) == []
    for site in ("", "nobody"):
        refused = owner.post("/ops/segments/rebuild", page="/ops/segments", site=site)
        assert (refused.status_code, "site: There are no events of this site." in refused.text) == (400, True)
    assert not real.due_builds.backfill.of_sites()
