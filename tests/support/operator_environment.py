"""The environment of a system as an operator installs it: without the packages that only development needs.

Some libraries load others if they are there, such as structlog rich, and Celery pygments. They take memory, and time at
the start. A package that Footfall needs, and that only requirements-dev.txt has, is missing in tests as it is for an
operator.
"""

import re
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

_HERE = Path(__file__).parent
_INSTALLED_BY_RUN = _HERE.parents[1] / "requirements-run.txt"


@cache
def operator_environment() -> dict[str, str]:
    """Names and values to set for `make run`."""
    pinned = re.findall(r"^([\w.-]+)(?:\[.*\])?==", _INSTALLED_BY_RUN.read_text(encoding="utf-8"), re.MULTILINE)
    known = {_plain(name) for name in pinned} | {"pip"}
    hidden = [
        package
        for package, distributions in packages_distributions().items()
        if known.isdisjoint(map(_plain, distributions))
    ]
    return {"PYTHONPATH": str(_HERE / "as_installed"), "HIDDEN_PACKAGES": ",".join(sorted(hidden))}


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
