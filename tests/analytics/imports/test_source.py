"""Files of any size and form are read row by row, or refused by name."""

import gzip
import json
import tracemalloc
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile

import pytest
import zstandard

from analytics.imports.source import LONGEST_ROW, InflatedBytes, SourceFile, UnreadableFile, keyed, source_files
from tests.support.effort import effort

ROWS = [{"a": "ü\n[{]}\\", "n": [1, {"b": None}]}, {}, {"c": 1.5}]


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(ROWS),
        json.dumps(ROWS, indent=2),
        f"\ufeff \n{json.dumps(ROWS, ensure_ascii=False)}\n",
        "\n\n".join(map(json.dumps, ROWS)),
    ],
)
@pytest.mark.parametrize("pack", [bytes, gzip.compress, zstandard.compress])
def test_json_is_read_as_an_array_or_as_lines_also_compressed(tmp_path: Path, text: str, pack: Any):
    (tmp_path / "rows").write_bytes(pack(text.encode()))
    file = SourceFile(tmp_path / "rows")
    assert list(file.json_rows()) == ROWS
    assert file.done == file.size


def test_an_array_of_large_objects_is_read_in_pieces(tmp_path: Path):
    rows = [{"n": n, "text": "x" * n * 1000} for n in range(500)]
    (tmp_path / "rows").write_text(json.dumps(rows))
    assert list(SourceFile(tmp_path / "rows").json_rows()) == rows


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b'[{"a": 1}, {"a"', "has no end"),
        (b'{"a": 1}\n[1]\n', "not a JSON object"),
        (b"[1, 2]", "not a JSON object"),
        (b'{"a": 1}\n{"b', "rows: "),
        (gzip.compress(b'{"a": 1}\n' * 1000, mtime=0)[:-9], "rows: "),
        (b"\x28\xb5\x2f\xfd" + b"\xff" * 20, "rows: "),
        (b"[" * 100_000, "rows: "),
    ],
)
def test_a_damaged_file_is_refused_by_name(tmp_path: Path, content: bytes, said: str):
    (tmp_path / "rows").write_bytes(content)
    with pytest.raises(UnreadableFile, match=said):
        list(SourceFile(tmp_path / "rows").rows())


def test_a_field_of_a_csv_file_may_be_as_long_as_a_row(tmp_path: Path):
    (tmp_path / "rows").write_text(f"a,b\n{'x' * 200_000},1\n")
    assert list(SourceFile(tmp_path / "rows").csv_rows()) == [{"a": "x" * 200_000, "b": "1"}]


def test_the_bytes_of_all_files_of_an_archive_are_counted_together(tmp_path: Path):
    with ZipFile(tmp_path / "two.zip", "w", ZIP_DEFLATED) as archive:
        archive.writestr("a", json.dumps(ROWS))
        archive.writestr("b", zstandard.compress(json.dumps(ROWS).encode()))
    most = 2 * len(json.dumps(ROWS))

    def read(limit: int) -> list[Any]:
        return [row for file in source_files([tmp_path / "two.zip"], InflatedBytes(limit)) for row in file.json_rows()]

    assert read(most) == [*ROWS, *ROWS]
    with pytest.raises(UnreadableFile, match=r"two\.zip/b: inflated, it is too large"):
        read(most - 1)


def test_a_missing_file_is_refused_by_name(tmp_path: Path):
    with pytest.raises(UnreadableFile, match="none: No such file or directory"):
        SourceFile(tmp_path / "none")


def test_a_damaged_parquet_file_is_refused_by_name(tmp_path: Path):
    (tmp_path / "rows.parquet").write_bytes(b"PAR1" + b"x" * 100)
    with pytest.raises(UnreadableFile, match=r"rows\.parquet"):
        list(SourceFile(tmp_path / "rows.parquet").rows())


def test_a_line_without_an_end_does_not_fill_the_memory(tmp_path: Path):
    with (tmp_path / "rows").open("wb") as file:
        file.truncate(10 * LONGEST_ROW)  # zeros, which take no room on the disk
    tracemalloc.start()
    with pytest.raises(UnreadableFile, match="longer than 16,000,000 bytes"):
        list(SourceFile(tmp_path / "rows").lines())
    assert tracemalloc.get_traced_memory()[1] < 4 * LONGEST_ROW
    tracemalloc.stop()


def test_a_csv_row_of_many_lines_does_not_fill_the_memory(tmp_path: Path):
    with (tmp_path / "rows").open("w") as file:
        file.writelines(['a,b\n"\n","\n"\n'] + ['"' + "\n" * 100_000 + '",'] * 200)
    with pytest.raises(UnreadableFile, match="a row is longer than 16,000,000 characters"):
        list(SourceFile(tmp_path / "rows").csv_rows())


def test_many_small_objects_after_a_large_one_are_read_in_linear_time(tmp_path: Path):
    def read(large: int) -> None:
        file = tmp_path / f"{large}"
        file.write_text('[{"a": "' + "x" * large + '"}' + ",{}" * 100_000 + "]")
        assert sum(1 for _ in SourceFile(file).json_rows()) == 100_001

    assert effort(lambda: read(2_150_000)) < 5 * effort(lambda: read(1))


def test_equal_rows_have_different_keys_which_are_the_same_in_each_run():
    rows = ["a", "b", "a", "a"]
    keys = [key for key, _ in keyed(rows, str)]
    assert len(set(keys)) == 4
    assert keys == [key for key, _ in keyed(rows, str)]
    assert [key.rpartition("-")[2] for key in keys] == ["0", "0", "1", "2"]


def test_keys_take_a_bounded_amount_of_memory():
    tracemalloc.start()
    assert sum(1 for _ in keyed(map(str, range(500_000)), str)) == 500_000
    assert tracemalloc.get_traced_memory()[1] < 60_000_000
    tracemalloc.stop()
