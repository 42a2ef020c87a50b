"""Documents as MongoDB sends them, from a real server."""

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pymongo
import pytest
from bson import CodecOptions
from pymongo.database import Database
from pymongo.errors import AutoReconnect, ExecutionTimeout, OperationFailure

from analytics.events import raw_replies
from analytics.events.raw_replies import RawDocuments, document_at, find_raw

OPTIONS: CodecOptions[dict[str, Any]] = CodecOptions()
DOCUMENTS = [{"_id": n, "text": "é" * n, "list": [1, {"a": None}]} for n in range(12)]


@pytest.fixture
def stored(database: Database[dict[str, Any]]) -> Database[dict[str, Any]]:
    database["things"].insert_many(DOCUMENTS)
    return database


def find(batch: int, **more: Any) -> dict[str, Any]:
    return {"find": "things", "filter": {}, "sort": {"_id": 1}, "batchSize": batch} | more


def decoded(replies: Iterator[RawDocuments]) -> list[list[dict[str, Any]]]:
    return [[document_at(reply.raw, start, OPTIONS) for start in reply.starts] for reply in replies]


@pytest.mark.parametrize("batch", [1, 5, 11, 12, 13])
def test_all_documents_are_found_in_replies_of_any_size(stored: Database[dict[str, Any]], batch: int):
    found = decoded(find_raw(stored, find(batch)))
    assert [document for reply in found for document in reply] == DOCUMENTS
    assert [len(reply) for reply in found] == [*[batch] * (12 // batch), *[12 % batch] * (12 % batch > 0)]


def test_only_the_last_reply_may_be_known_to_be_the_last(stored: Database[dict[str, Any]]):
    assert [reply.is_last for reply in find_raw(stored, find(5))] == [False, False, True]
    assert [*find_raw(stored, find(5, filter={"_id": -1}))] == []
    assert [*find_raw(stored, find(5) | {"find": "nothing"})] == []


def test_a_reader_that_stops_leaves_no_cursor(stored: Database[dict[str, Any]]):
    with closing(find_raw(stored, find(5))) as replies:
        next(replies)
        assert open_cursors(stored) == 1
    assert open_cursors(stored) == 0


def open_cursors(database: Database[dict[str, Any]]) -> int:
    steps = [{"$currentOp": {"idleCursors": True}}, {"$match": {"type": "idleCursor", "ns": f"{database.name}.things"}}]
    return len([*database.client["admin"].aggregate(steps)])


def test_a_time_limit_holds_for_all_replies(stored: Database[dict[str, Any]]):
    with pymongo.timeout(60):
        assert len(decoded(find_raw(stored, find(5)))) == 3
    replies = find_raw(stored, find(5))
    next(replies)
    with pymongo.timeout(1e-6), pytest.raises(ExecutionTimeout):
        next(replies)


def test_an_error_of_mongodb_is_raised(stored: Database[dict[str, Any]]):
    with pytest.raises(OperationFailure):
        next(find_raw(stored, find(5, filter={"$no": 1})))


def test_a_lost_connection_is_replaced_once(stored: Database[dict[str, Any]], monkeypatch: pytest.MonkeyPatch):
    ask, lost = raw_replies._asked, [True, False]

    def losing(*args: Any) -> bytes:
        if lost.pop(0):
            raise AutoReconnect
        return ask(*args)

    monkeypatch.setattr(raw_replies, "_asked", losing)
    assert decoded(find_raw(stored, find(20))) == [DOCUMENTS]
    lost[:] = [True, True]
    with pytest.raises(AutoReconnect):
        next(find_raw(stored, find(20)))
