"""Programs from Debian's packages that only some tests use."""

import os
import shutil

import pytest

# .ci/run puts those here that must not be on PATH: `make run` would prefer this redis-server to the one in .venv.
APART = "/opt/footfall-tests/usr/bin"


def program(name: str, package: str) -> str:
    """The path of a program. If it is not installed, the test is skipped, and fails in CI."""
    found = shutil.which(name, path=f"{APART}:{os.environ['PATH']}:/usr/sbin")
    if not found and "CI" not in os.environ:
        pytest.skip(f"apt-get install {package}")
    assert found, f"no {name}"
    return found
