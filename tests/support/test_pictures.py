"""The comparison of pictures, with pictures that are known."""

from pathlib import Path

import pytest
import segno

from tests.support.pictures import changed_pictures


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path, Path]:
    """The pictures before and after, which are QR codes, and a place for the differences."""
    before, after, marked = (tmp_path / name for name in ("before", "after", "marked"))
    for folder in (before, after, marked):
        folder.mkdir()
    (marked / "of-a-run-before.png").touch()
    same = segno.make("same", version=2)
    same.save(before / "same.png", scale=4)
    same.save(after / "same.png", scale=4)
    same.save(before / "recoloured.png", scale=4)
    same.save(after / "recoloured.png", scale=4, light="#fefefe")  # an eye sees no difference
    same.save(before / "larger.png", scale=4)
    same.save(after / "larger.png", scale=8)
    same.save(before / "gone.png", scale=4)
    same.save(after / "new.png", scale=4)
    for folder in (before, after):
        segno.make(folder.name, version=2).save(folder / "other.png", scale=4)
    return before, after, marked


def test_pictures_that_changed_are_listed_and_marked(folders: tuple[Path, Path, Path]):
    found = changed_pictures(*folders)
    assert list(found) == ["larger.png", "other.png"]
    assert 0.6 < found["larger.png"] < 1, "three quarters of the area are new"
    assert 0.05 < found["other.png"] < 0.5
    assert {file.name for file in folders[2].iterdir()} == {"larger.png", "other.png"}


def test_small_changes_are_left_out(folders: tuple[Path, Path, Path]):
    assert list(changed_pictures(*folders, least=0.6)) == ["larger.png"]
    assert [file.name for file in folders[2].iterdir()] == ["larger.png"]
