"""Stores the funnels that people save for a site's dashboard.

Only this module knows MongoDB's names of them. Callers must handle Unavailable, raised if MongoDB is unreachable or
slow.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pymongo.database import Database

from analytics.digest import digest_of
from analytics.mongodb import reading, writing

MOST_FUNNELS = 50  # of a site
LONGEST_FUNNEL_NAME = 100  # characters


@dataclass(frozen=True, slots=True)
class SavedFunnel:
    """`steps` and `window` are those of POST /api/v2/funnel, in JSON. A site has one funnel of each name."""

    site_id: str
    name: str
    steps: tuple[dict[str, Any], ...]
    window: str

    @property
    def id(self) -> str:
        return digest_of(f"{self.site_id}\0{self.name}")[:16]


class TooManyFunnels(Exception):
    """The site has MOST_FUNNELS. Two funnels that are saved at the same time may exceed it by one."""


class FunnelStore:
    def __init__(self, database: Database[dict[str, Any]]) -> None:
        self._database = database
        self._funnels = database["funnels"]

    def list(self, site_id: str) -> Sequence[SavedFunnel]:
        """Return the funnels of a site by name. Raises Unavailable."""
        with reading(self._database):
            found = self._funnels.find({"site_id": site_id}).sort("name").limit(MOST_FUNNELS + 1)
            return [SavedFunnel(x["site_id"], x["name"], tuple(x["steps"]), x["window"]) for x in found]

    def save(self, funnel: SavedFunnel) -> None:
        """Save a funnel. It replaces the one of the same site and name. Raises TooManyFunnels and Unavailable."""
        others = {"site_id": funnel.site_id, "name": {"$ne": funnel.name}}
        with writing(self._database):
            self._funnels.create_index([("site_id", 1), ("name", 1)], name="site_name")
            if self._funnels.count_documents(others, limit=MOST_FUNNELS) >= MOST_FUNNELS:
                raise TooManyFunnels
            self._funnels.replace_one({"_id": funnel.id}, _document(funnel), upsert=True)

    def remove(self, site_id: str, funnel_id: str) -> None:
        """Remove a funnel of this site, if there is one. Raises Unavailable."""
        with writing(self._database):
            self._funnels.delete_one({"_id": funnel_id, "site_id": site_id})


def _document(funnel: SavedFunnel) -> dict[str, Any]:
    return {"site_id": funnel.site_id, "name": funnel.name, "steps": list(funnel.steps), "window": funnel.window}
