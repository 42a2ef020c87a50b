"""How a sharded MongoDB divides `events`. docs/scaling.md explains the key. Callers must handle Unavailable."""

import json
from typing import Any

import pymongo
from pymongo.database import Database

from analytics.mongodb import reading

# An event that is sent again has the same site_id and _id, perhaps with another timestamp. Each shard refuses a second
# `_id`, but does not know those of the others, so both copies must belong to one shard.
SHARD_KEY = [("site_id", pymongo.ASCENDING), ("_id", pymongo.HASHED)]


class NotSharded(Exception):
    """This MongoDB is not a mongos."""


def shard_commands(database: Database[dict[str, Any]]) -> list[str]:
    """Return the commands for mongosh that shard `events`. Raises NotSharded and Unavailable."""
    with reading(database):
        if database.client.admin.command("hello").get("msg") != "isdbgrid":
            raise NotSharded
    return commands_for(database.name)


def commands_for(name: str) -> list[str]:
    """The commands for the database of this name."""
    key, events = json.dumps(dict(SHARD_KEY)), json.dumps(f"{name}.events")
    return [
        f"sh.enableSharding({json.dumps(name)})",
        f"db.getSiblingDB({json.dumps(name)}).events.createIndex({key})",
        f"sh.shardCollection({events}, {key})",
    ]
