"""Compares the pictures of the browser tests with those of an earlier run.

    python -m tests.support.pictures      what `make pictures` runs

build/screenshots has the pictures of the last run, and build/screenshots.previous those of an earlier one. The pictures
that changed are listed, and build/screenshots.changed has each of them with the changed pixels in red. Pixelmatch
compares them. It ignores how the edges of letters are smoothed.
"""

import json
import shutil
from pathlib import Path

from tests.support.running_system import ROOT
from tests.support.stock_clients import finish, start

SCREENSHOTS = ROOT / "build" / "screenshots"
LEAST = 0.001  # of the pixels of a picture: a time of day on a page is fewer
_LIMIT = 600  # seconds


def changed_pictures(before: Path, after: Path, marked: Path, least: float = LEAST) -> dict[str, float]:
    """The pictures that both folders have and that differ: the share of the pixels that do, by the name, the largest
    first. Those below `least` are left out. `marked` is emptied, and gets a picture of each difference.
    """
    shutil.rmtree(marked, ignore_errors=True)
    marked.mkdir(parents=True)
    lines = finish(start("pictures.mjs", before, after, marked), _LIMIT).splitlines()
    shares = dict(sorted(map(json.loads, lines), key=lambda each: -each[1]))
    for name in [name for name, share in shares.items() if share < least]:
        del shares[name]
        (marked / name).unlink()
    return shares


if __name__ == "__main__":
    previous, differences = (SCREENSHOTS.with_suffix(suffix) for suffix in (".previous", ".changed"))
    if not previous.exists():
        raise SystemExit(
            f"Move the pictures of an earlier run from {SCREENSHOTS} to {previous}, and run the tests again."
        )
    found = changed_pictures(previous, SCREENSHOTS, differences)
    for name, share in found.items():
        print(f"{share:8.2%}  {name}")
    print(f"{len(found)} pictures changed. {differences} has what changed in red.")
