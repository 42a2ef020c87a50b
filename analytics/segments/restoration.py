"""After a restore, lets workers build again the segments whose files were outside MongoDB, because a backup holds only
what is in MongoDB. Until a month is built, reports read its events from MongoDB. It may be repeated.

Callers must handle Unavailable, raised if MongoDB is not reachable.
"""

from typing import Any

from pymongo.database import Database

from analytics.events.backfill import Backfill
from analytics.interval import interval_of
from analytics.mongodb import reading, writing


def rebuild_files_outside(database: Database[dict[str, Any]]) -> None:
    """Remove the segments from the manifests, list their months for the backfill, and forget their files: another
    system may still use them. Raises Unavailable.
    """
    manifests, files = database["segment_manifests"], database["segments.files"]
    with reading(database):
        outside = {each["_id"] for each in files.find({"outside": True}, {"_id": 1})}
        found = list(manifests.find({"segments.version": {"$in": sorted(outside)}}))
    backfill = Backfill(database)
    for manifest in found:
        gone = [segment for segment in manifest["segments"] if segment["version"] in outside]
        backfill.add_missing(manifest["_id"], {interval_of("month", segment["start"]) for segment in gone})
        change = {"$pull": {"segments": {"version": {"$in": [each["version"] for each in gone]}}}}
        with writing(database):
            manifests.update_one({"_id": manifest["_id"]}, change | {"$inc": {"generation": 1}})
    with writing(database):
        files.delete_many({"outside": True})
