"""Plausible's export: daily totals, with a sample made by hand."""

from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile
from zoneinfo import ZoneInfo

import pytest

from analytics.aggregates.day_total import AGGREGATE_TABLES
from analytics.imports.format import SkippedRow
from analytics.imports.importer import Preview
from analytics.imports.plausible_export import translate
from analytics.imports.source import UnreadableFile, source_files
from analytics.sites.site import Site
from tests.analytics.imports.conftest import SAMPLES, Imports

SAMPLE = SAMPLES / "plausible"
# The totals of the sample, counted by hand: how many rows each table has, and its visitors and pageviews or events.
COUNTED = {
    "total": (3, 9, 16), "pages": (5, 11, 16), "entry_pages": (3, 9, 16), "exit_pages": (4, 10, 16),
    "sources": (6, 9, 16), "places": (5, 9, 16), "devices": (3, 9, 16), "browsers": (4, 9, 16), "systems": (3, 9, 16),
    "custom_events": (6, 14, 22), "props": (4, 6, 7),
}  # fmt: skip


def zipped(path: Path, files: dict[str, str] | None = None) -> Path:
    """An archive as Plausible makes it."""
    with ZipFile(path, "w", ZIP_DEFLATED) as archive:
        for name, text in (files or {each.name: each.read_text() for each in sorted(SAMPLE.iterdir())}).items():
            archive.writestr(name, text)
    return path


def visitors(*rows: tuple[str, int]) -> dict[str, str]:
    lines = [f"{day},{n},{n},0,{n},0" for day, n in rows]
    return {"imported_visitors.csv": "\n".join(["date,visitors,pageviews,bounces,visits,visit_duration", *lines])}


def counted(imports: Imports) -> dict[str, tuple[int, int, int]]:
    found: dict[str, tuple[int, int, int]] = {}
    for document in imports.database["imported_days"].find():
        counts, before = document["counts"], found.get(document["table"], (0, 0, 0))
        more = (1, counts["visitors"], counts.get("pageviews", counts.get("events")))
        found[document["table"]] = tuple(a + b for a, b in zip(before, more, strict=True))  # type: ignore[assignment]
    return found


def documents(imports: Imports) -> list[dict[str, Any]]:
    return list(imports.database["imported_days"].find().sort("_id"))


@pytest.mark.parametrize("is_zip", [True, False])
def test_the_tables_of_the_sample_are_stored_once_as_counted_by_hand(imports: Imports, tmp_path: Path, is_zip: bool):
    paths = [zipped(tmp_path / "export.zip")] if is_zip else sorted(SAMPLE.iterdir())
    record = imports.run(*paths)
    assert set(COUNTED) == set(AGGREGATE_TABLES)
    assert (record.format, record.rows, record.events, record.skipped) == ("plausible", 43, 46, {})
    assert counted(imports) == COUNTED
    before = documents(imports)
    assert imports.run(*paths).skipped == {}
    assert documents(imports) == before, "a repeated import changes nothing"
    assert (imports.stored(), imports.faults()) == ([], [])


def test_the_values_have_our_names(imports: Imports, tmp_path: Path):
    imports.run(zipped(tmp_path / "export.zip"))
    days = imports.database["imported_days"]
    assert days.distinct("channel") == ["Direct", "Email", "Organic Search", "Organic Social"]
    assert days.distinct("source") == ["Google", "Hacker News", "newsletter"]
    assert days.distinct("referrer") == ["google.com", "news.ycombinator.com/item"]
    assert days.distinct("os") == ["Linux", "iOS", "macOS"]
    assert days.distinct("region") == ["DE-BE", "DE-BY", "FR-IDF"]
    assert days.distinct("city") == [], "Plausible has numbers for cities"
    (page,) = days.find({"page": "/", "day": "2025-01-01", "table": "pages"})
    assert page["counts"] == {
        "visitors": 3, "visits": 4, "pageviews": 4, "engaged": 100, "timed": 4, "depths": 240, "scrolled": 3,
    }  # fmt: skip


def test_a_day_begins_at_midnight_of_the_site(imports: Imports, tmp_path: Path):
    imports.services.sites.put(Site("shop", zone=ZoneInfo("Asia/Tokyo")))
    imports.run(zipped(tmp_path / "export.zip", visitors(("2025-01-01", 1))))
    extent = imports.services.aggregates.extent(["other", "shop"])
    assert extent is not None
    assert extent[0].isoformat() == extent[1].isoformat() == "2024-12-31T15:00:00+00:00"
    assert imports.services.aggregates.extent(["other"]) is None


def test_an_import_that_was_killed_continues_and_each_total_is_stored_once(imports: Imports, tmp_path: Path):
    rows = [(f"20{10 + n // 336}-{n // 28 % 12 + 1:02}-{n % 28 + 1:02}", n) for n in range(3000)]
    plan = imports.plan(zipped(tmp_path / "export.zip", visitors(*rows)))
    imports.kill_after(2000, plan)
    assert imports.services.aggregates.count(plan.id) == 4000, "two for each row: the totals, and the pageviews"
    record = imports.run(tmp_path / "export.zip")
    assert (record.is_finished, imports.services.aggregates.count(plan.id)) == (True, 6000)


def test_a_day_of_a_table_belongs_to_the_import_that_brought_it(imports: Imports, tmp_path: Path):
    older = imports.run(zipped(tmp_path / "a.zip", visitors(("2025-01-01", 5), ("2025-01-02", 6))))
    newer = imports.run(zipped(tmp_path / "b.zip", visitors(("2025-01-02", 60), ("2025-01-03", 7))))
    assert (newer.events, newer.skipped) == (2, {"day_of_another_import": 2})
    seen = imports.services.importer.preview(imports.plan(tmp_path / "b.zip"), imports.services.lookups)
    assert (seen.rows, seen.stored, seen.skipped) == (2, 2, {"day_of_another_import": 2})
    assert sum(imports.services.imports.remove_all_of(older, None)) == 4
    imports.services.imports.forget(older.id)
    assert imports.run(tmp_path / "b.zip").skipped == {}, "the days are free again"
    assert counted(imports)["total"] == (2, 67, 67)


def test_another_site_may_have_the_same_days(imports: Imports, tmp_path: Path):
    file = zipped(tmp_path / "a.zip", visitors(("2025-01-01", 5)))
    assert imports.run(file).skipped == imports.run(file, site="blog").skipped == {}
    assert imports.services.imports.count(imports.services.imports.list("blog")[0]) == 2


def test_tomorrow_and_rows_that_are_not_readable_are_left_out(imports: Imports, tmp_path: Path):
    wrong = visitors(("2026-11-23", 1), ("2026-11-22", 1), ("2026-13-22", 1), ("yesterday", 1), ("20251122", 4))
    wrong["imported_visitors.csv"] += (
        "\n2025-01-05,-1,0,0,0,0\n2025-01-06,many,0,0,0,0\n2025-01-07,inf,0,0,0,0\nshort\n"
    )
    assert imports.run(zipped(tmp_path / "a.zip", wrong)).skipped == {"in_the_future": 2, "not_readable": 6}
    assert sorted(imports.database["imported_days"].distinct("day")) == ["2025-11-22", "2026-11-22"]


@pytest.mark.parametrize("day", ["0001-01-01", "1969-12-31"])
def test_days_before_1970_are_not_readable(imports: Imports, tmp_path: Path, day: str):
    imports.services.sites.put(Site("shop", zone=ZoneInfo("Asia/Tokyo")))
    record = imports.run(zipped(tmp_path / "export.zip", visitors((day, 1), ("1970-01-01", 2))))
    assert (record.skipped, [x["day"] for x in documents(imports)]) == ({"not_readable": 2}, ["1970-01-01"] * 2)


def test_only_the_first_rows_of_daily_totals_are_shown(imports: Imports, tmp_path: Path):
    plan = imports.plan(zipped(tmp_path / "export.zip"))
    assert imports.services.importer.preview(plan, imports.services.lookups, most_rows=7).rows == 7


def test_a_table_with_columns_that_are_not_known_is_not_taken_for_the_totals():
    assert [*translate({"date": "2025-01-01", "visitors": "1", "bounces": "1", "language": "de"})] == [
        SkippedRow("not_readable")
    ]


def test_other_daily_totals_need_only_a_day_and_visitors(imports: Imports, tmp_path: Path):
    (tmp_path / "ga4.csv").write_text("date,country,visitors,visits\n20250101,DE,3,4\n20250101,FR,1,1\n")
    record = imports.run(tmp_path / "ga4.csv")
    assert (record.format, record.events) == ("plausible", 2)


def test_cities_that_are_names_are_left_out_and_add_up_to_their_region(imports: Imports, tmp_path: Path):
    rows = ("DE,DE-BY,Munich,3,4", "DE,DE-BY,Nuremberg,2,2", "DE,DE-BE,Berlin,1,1")
    lines = ["date,country,region,city,visitors,visits", *(f"20250101,{row}" for row in rows)]
    (tmp_path / "cities.csv").write_text("\n".join(lines))
    assert imports.run(tmp_path / "cities.csv").events == 3
    found = documents(imports)
    assert not any("city" in each for each in found)
    for region, visits in (("DE-BY", 6), ("DE-BE", 1)):
        assert sum(each["counts"]["visits"] for each in found if each["region"] == region) == visits


def test_a_dry_run_stores_nothing(imports: Imports, tmp_path: Path):
    seen: Preview = imports.services.importer.preview(
        imports.plan(zipped(tmp_path / "export.zip")), imports.services.lookups
    )
    assert (seen.rows, seen.stored, len(seen.totals), seen.events) == (43, 46, 10, [])
    assert documents(imports) == []


@pytest.mark.parametrize("content", [b"PK\x03\x04damaged", b"PK\x03\x04"])
def test_a_damaged_archive_is_refused_by_name(tmp_path: Path, content: bytes):
    (tmp_path / "export.zip").write_bytes(content)
    with pytest.raises(UnreadableFile, match=r"export\.zip"):
        source_files([tmp_path / "export.zip"])


def test_an_archive_that_is_cut_off_or_changed_is_refused_by_name(tmp_path: Path):
    whole = zipped(tmp_path / "whole.zip").read_bytes()
    (tmp_path / "cut.zip").write_bytes(whole[:1000])
    with pytest.raises(UnreadableFile, match=r"cut\.zip"):
        source_files([tmp_path / "cut.zip"])
    begin = whole.index(b".csv") + 4
    (tmp_path / "changed.zip").write_bytes(whole[:begin] + b"\0" * 20 + whole[begin + 20 :])
    with pytest.raises(UnreadableFile, match=r"changed\.zip.imported_browsers"):
        [*source_files([tmp_path / "changed.zip"])[0].csv_rows()]


def test_an_archive_with_a_folder_and_the_files_of_macos_is_read(tmp_path: Path):
    files = {"export/": "", "export/imported_visitors.csv": "date,visitors\n2025-01-01,1\n", "__MACOSX/._x": "x"}
    (file,) = source_files([zipped(tmp_path / "export.zip", files)])
    assert [*file.csv_rows()] == [{"date": "2025-01-01", "visitors": "1"}]
    assert file.done == file.size


def test_an_empty_archive_is_refused(tmp_path: Path):
    with pytest.raises(UnreadableFile, match="it has 0 files"):
        source_files([zipped(tmp_path / "empty.zip", {"export/": ""})])
