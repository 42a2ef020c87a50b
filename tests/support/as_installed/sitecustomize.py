"""Hides the packages of HIDDEN_PACKAGES from a process. Python imports this module at its start, if its folder is in
PYTHONPATH.
"""

import os
import sys
from collections.abc import Sequence


class Hider:
    """A finder that finds nothing, and lets no other one look for a hidden package."""

    hidden = frozenset(os.environ.get("HIDDEN_PACKAGES", "").split(","))

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: object = None) -> None:
        if name in self.hidden:
            raise ModuleNotFoundError(f"{name} is hidden", name=name)


sys.meta_path.insert(0, Hider())
