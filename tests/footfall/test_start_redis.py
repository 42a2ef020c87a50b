from dataclasses import replace
from pathlib import Path

import pytest
from redis import Redis

from footfall.embedded_servers import pick_port, redis_server
from tests.support.running_system import running

TRANSACTION = {"first": "1", "second": "x" * 1000, "third": "3"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of a Redis that wrote a value and a transaction."""
    server = redis_server(tmp_path / "redis", pick_port(0))
    with running(server), Redis(port=server.port) as redis:
        redis.set("before", 1)
        with redis.pipeline() as transaction:
            for name, value in TRANSACTION.items():
                transaction.set(name, value)
            transaction.execute()
    return tmp_path / "redis"


def values_after_a_start(folder: Path, *new: str) -> set[str]:
    """The names of all values. Values with these new names are set after the start."""
    server = redis_server(folder, pick_port(0))
    with running(server), Redis(port=server.port, decode_responses=True) as redis:
        for name in new:
            redis.set(name, 1)
        return set(redis.keys())


@pytest.mark.parametrize("end", [b"x" * 500, b"x" * 1000 + b"\r\n"], ids=["within a command", "between two commands"])
def test_a_part_of_a_transaction_never_comes_back(folder: Path, end: bytes):
    file = folder / "appendonly.aof"
    whole = file.read_bytes()
    file.write_bytes(whole[: whole.index(end) + len(end)])
    assert values_after_a_start(folder, "later") == {"before", "later"}
    assert values_after_a_start(folder) == {"before", "later"}


def test_without_its_tail_a_file_of_whole_transactions_is_as_it_was(folder: Path):
    file = folder / "appendonly.aof"
    whole = file.read_bytes()
    assert values_after_a_start(folder) == {"before", *TRANSACTION}
    assert file.read_bytes() == whole


def test_a_file_that_is_damaged_elsewhere_is_left_to_the_operator(folder: Path):
    file = folder / "appendonly.aof"
    damaged = file.read_bytes().replace(b"first", b"fi\r\nt", 1).replace(b"$1000", b"Z1000", 1)
    file.write_bytes(damaged)
    server = redis_server(folder, pick_port(0))
    with running(replace(server, is_ready=lambda: "Bad file format" in server.last_error())) as process:
        assert process.wait(10) == 1
    assert file.read_bytes() == damaged
