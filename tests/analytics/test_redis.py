import pytest
from redis import Redis
from redis.exceptions import RedisError

from analytics.redis import execute_confirmed, rewrite_file


def test_replies_are_returned_only_if_enough_replicas_confirm(redis: Redis):
    line = redis.pipeline(transaction=False)
    line.set("name", "value")
    line.get("name")
    assert execute_confirmed(line, 0) == [True, b"value"]

    line.set("name", "other")
    with pytest.raises(RedisError, match="0 of 1 replicas confirmed"):
        execute_confirmed(line, 1)


def test_a_rewritten_file_is_reported(redis: Redis):
    redis.set("name", "value")
    assert rewrite_file(redis)
