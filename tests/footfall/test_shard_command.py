"""`python -m footfall shard`, and what its key relies on. No mongos is in any package registry, so none is tested."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from click.testing import CliRunner
from pymongo.database import Database

from analytics.events.event import id_from_client, new_id
from analytics.events.schema import load_event
from analytics.events.sharding import SHARD_KEY, commands_for
from analytics.events.store import EventStore
from config.settings import Settings
from footfall.embedded_servers import pick_port
from footfall.shard import shard_command
from tests.support.services import NOW

EVENT = {"site_id": "shop", "event_type": "pageview", "event_id": "one"}


def test_a_replica_set_is_not_sharded(settings: Settings):
    result = CliRunner().invoke(shard_command, obj=settings)
    assert result.exit_code == 1
    assert "MongoDB at MONGODB_URI is not sharded." in result.stderr
    assert result.stdout == ""


@pytest.mark.usefixtures("usual_limits")
def test_an_unreachable_mongodb_is_named(settings: Settings):
    elsewhere = f"mongodb://127.0.0.1:{pick_port(0)}/footfall"
    result = CliRunner().invoke(shard_command, obj=replace(settings, mongodb_uri=elsewhere))
    assert (result.exit_code, result.stdout) == (1, "")
    assert "MongoDB" in result.stderr


def test_the_commands_are_for_mongosh():
    assert commands_for("footfall") == [
        'sh.enableSharding("footfall")',
        'db.getSiblingDB("footfall").events.createIndex({"site_id": 1, "_id": "hashed"})',
        'sh.shardCollection("footfall.events", {"site_id": 1, "_id": "hashed"})',
    ]


def test_an_event_sent_again_has_the_same_shard_key_and_perhaps_another_time(
    database: Database[dict[str, Any]],
):
    """A key with the timestamp could send the second one to another shard, which does not know the first."""
    database["events"].create_index(SHARD_KEY)
    first, again = load_event(EVENT, NOW), load_event(EVENT, NOW + timedelta(minutes=1))
    assert (first.site_id, first.id) == (again.site_id, again.id)
    assert first.occurred_at != again.occurred_at
    events = EventStore(database)
    assert not events.store([("1-1", first)], NOW).duplicate
    assert events.store([("2-1", again)], NOW).duplicate == {0}
    assert database["events"].count_documents({}) == 1


def test_the_id_of_an_event_belongs_to_one_site():
    assert id_from_client("shop", "one") != id_from_client("blog", "one")
    assert new_id() != new_id()
