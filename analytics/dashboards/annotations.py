"""Stores annotations: what happened on a day, for the chart of a site's dashboard.

Only this module knows MongoDB's names of them. Callers must handle Unavailable, raised if MongoDB is unreachable or
slow.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from pymongo.database import Database

from analytics.digest import digest_of
from analytics.mongodb import reading, writing

MOST_ANNOTATIONS = 500  # of a site
LONGEST_ANNOTATION = 120  # characters


@dataclass(frozen=True, slots=True)
class Annotation:
    """`day` is in the site's time zone. The same text on the same day is the same annotation."""

    site_id: str
    day: date
    text: str

    @property
    def id(self) -> str:
        return digest_of(f"{self.site_id}\0{self.day}\0{self.text}")[:16]


class TooManyAnnotations(Exception):
    """The site has MOST_ANNOTATIONS. Two that are added at the same time may exceed it by one."""


class AnnotationStore:
    def __init__(self, database: Database[dict[str, Any]]) -> None:
        self._database = database
        self._annotations = database["annotations"]

    def list(self, site_id: str, first: date, last: date) -> Sequence[Annotation]:
        """Return the annotations of a site from `first` to `last`, in order of time. Raises Unavailable."""
        days = {"$gte": first.isoformat(), "$lte": last.isoformat()}
        with reading(self._database):
            found = self._annotations.find({"site_id": site_id, "day": days}).sort([("day", 1), ("text", 1)])
            return [Annotation(x["site_id"], date.fromisoformat(x["day"]), x["text"]) for x in found]

    def add(self, annotation: Annotation) -> None:
        """Raises TooManyAnnotations and Unavailable."""
        others = {"site_id": annotation.site_id, "_id": {"$ne": annotation.id}}
        named = {"site_id": annotation.site_id, "day": annotation.day.isoformat(), "text": annotation.text}
        with writing(self._database):
            self._annotations.create_index([("site_id", 1), ("day", 1)], name="site_day")
            if self._annotations.count_documents(others, limit=MOST_ANNOTATIONS) >= MOST_ANNOTATIONS:
                raise TooManyAnnotations
            self._annotations.replace_one({"_id": annotation.id}, named, upsert=True)

    def remove(self, site_id: str, annotation_id: str) -> None:
        """Remove an annotation of this site, if there is one. Raises Unavailable."""
        with writing(self._database):
            self._annotations.delete_one({"_id": annotation_id, "site_id": site_id})
