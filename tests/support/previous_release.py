"""The previous release, from the history of this repository, to run beside the current code."""

import subprocess
from pathlib import Path

import pytest

from tests.support.running_system import ROOT

COMMIT = "f859a9ba85b0cc39851a684f4e93b58b1ad0a6ff"  # of the tag v0.1.0; a clone may lack tags


def unpack_previous_release(folder: Path) -> Path:
    """Write its code into `folder`. It runs with the packages that are installed."""
    git = ["git", "-C", str(ROOT)]
    if subprocess.run([*git, "cat-file", "-e", COMMIT], capture_output=True, check=False).returncode:
        pytest.skip(f"this clone has no history with {COMMIT[:7]}: run `git fetch --unshallow`")
    packed = subprocess.run([*git, "archive", COMMIT], capture_output=True, check=True).stdout
    folder.mkdir()
    subprocess.run(["tar", "-x", "-C", folder], input=packed, check=True)
    return folder
