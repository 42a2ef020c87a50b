"""What counts as JSON, and what becomes of text that no store can hold."""

import json

import pytest

from analytics.json_input import NotJson, read_json, without_half_pairs


@pytest.mark.parametrize(
    ("raw", "message"),
    [(b"", "Not JSON: "), (b"{", "Not JSON: "), (b"\xff\xfe", "Not JSON: "), (b"1" * 5000, "Not JSON: "),
     (b"[" * 100_000, "Nested too deeply.")],
    ids=["empty", "half", "not utf-8", "long number", "deep"],
)  # fmt: skip
def test_bytes_that_are_not_json_are_refused_with_the_reason(raw: bytes, message: str):
    with pytest.raises(NotJson, match=message):
        read_json(raw)


@pytest.mark.parametrize(
    ("raw", "whole", "halves"),
    [
        (rb'{"a": "\ud800x"}', {"a": "\ufffdx"}, 1),
        (rb'{"\uDFFF": ["\udbff\udbff", {"b": "\ude00"}]}', {"\ufffd": ["\ufffd\ufffd", {"b": "\ufffd"}]}, 4),
        (rb'{"a": "\ud83d\ude00 \\ud800 \\\ud800"}', {"a": "\U0001f600 \\ud800 \\\ufffd"}, 1),
        (b'{"a": "\xed\xa0\x80"}', {"a": "\ufffd"}, 1),
        ('{"a": "\ufffd \ud83d\ude00"}'.encode("utf-16", "surrogatepass"), {"a": "\ufffd \U0001f600"}, 0),
        ('{"a": "\ud83d"}'.encode("utf-16-le", "surrogatepass"), {"a": "\ufffd"}, 1),
        ('{"a": "\U0001f600\ud7ff"}'.encode(), {"a": "\U0001f600\ud7ff"}, 0),
    ],
)
def test_half_a_surrogate_pair_is_replaced_wherever_it_stands_in_json(raw: bytes, whole: object, halves: int):
    replaced, count = without_half_pairs(raw)
    assert (json.loads(replaced), count) == (whole, halves)
