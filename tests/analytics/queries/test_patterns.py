"""The cost of a regular expression is known before DuckDB compiles it."""

import time
from dataclasses import replace
from typing import Any

import pytest
from flask.testing import FlaskClient

from analytics.queries.patterns import MOST_INSTRUCTIONS, check_patterns
from analytics.queries.query import And, Condition, Done, Not, Or
from analytics.queries.query_schema import LONGEST_TEXT, MOST_VALUES, InvalidQuery
from tests.report_app.test_query import ask

COSTLY = {
    "a repetition of repetitions": "k{1000}" * 150,
    "a large class, repeated": r"\pL{300}",
    "a large class, repeated twice over": r"(\pL{10}){10}",
    "all but a large class, repeated": r"[^\pL]{200}",
    "an optional class, repeated": r"(\pL?){100}",
    "a class of many characters, repeated": "[" + "".join(chr(0x4E00 + 2 * n) for n in range(1_000)) + "]{100}",
    "any character, repeated": "(.{100}){10}",
    "an alternative, repeated": "(aa|bb|cc|dd){900}",
    "nested repetitions": "((((a{9}){9}){9}){9}){9}",
    "nothing, repeated": "((((){99}){99}){99}){99}",
}
USUAL = [
    "^/blog/[0-9]+$",
    r"\.(html|php)$",
    "|".join(f"/products/{n}" for n in range(200)),
    r"^/\pL+/\d{4}-\d{2}",
    ".*",
]


def matches(*patterns: str, **more: Any) -> Condition:
    return Condition("matches", "event:page", patterns, place="#/filters/0", **more)


@pytest.mark.parametrize("case_sensitive", [True, False])
@pytest.mark.parametrize("kind", COSTLY)
def test_an_expensive_pattern_is_refused_quickly(kind: str, case_sensitive: bool):
    began = time.process_time()
    with pytest.raises(InvalidQuery, match="event:page: ") as error:
        check_patterns([matches(COSTLY[kind][:LONGEST_TEXT], case_sensitive=case_sensitive)])
    assert time.process_time() - began < 0.2
    assert error.value.pointer == "#/filters/0"


def test_a_thousand_patterns_are_refused_quickly():
    costly = [r"\pL\pN|" * 250 + f"{n}" for n in range(MOST_VALUES)]
    began = time.process_time()
    with pytest.raises(InvalidQuery, match="brings the total to"):
        check_patterns([matches(*costly)])
    assert time.process_time() - began < 1


@pytest.mark.parametrize("case_sensitive", [True, False])
def test_usual_patterns_are_accepted_together(case_sensitive: bool):
    check_patterns([matches(*USUAL, case_sensitive=case_sensitive)])


def test_case_folding_counts():
    """It is twice as large if case is ignored. The flags are those of the query."""
    pattern = f"[a-z]{{{MOST_INSTRUCTIONS // 4}}}"
    check_patterns([matches(pattern)])
    with pytest.raises(InvalidQuery):
        check_patterns([matches(pattern, case_sensitive=False)])


def test_patterns_are_found_at_any_depth():
    large = matches(r"\pL{300}")
    for wanted in (Not(large), And((large,)), Or((matches("a"), large)), Not(Done(And((large,))))):
        with pytest.raises(InvalidQuery):
            check_patterns([wanted])
    check_patterns([replace(large, operator="contains")])


@pytest.mark.parametrize("modifier", [{}, {"case_sensitive": False}])
@pytest.mark.parametrize("pattern", ["k{1000}" * 150, r"\pL{300}", "(", "(?=x)"])
def test_a_refused_pattern_is_a_400_that_names_the_filter(
    report: FlaskClient, story: None, pattern: str, modifier: dict[str, bool]
):
    filters = [["is", "event:page", ["/"]], ["not", ["matches", "event:page", ["x", pattern], modifier]]]
    began = time.monotonic()
    answer = ask(report, filters=filters)
    assert answer.status_code == 400
    assert answer.json["error"].startswith("#/filters/1/1: event:page: ")
    assert time.monotonic() - began < 3
    funnel = {"site_id": "shop", "date_range": "30d", "steps": [{"page": "/"}, {"filter": filters[1]}]}
    answer = report.post("/api/v2/funnel", json=funnel)
    assert answer.status_code == 400
    assert answer.json["error"].startswith("#/steps/1/filter/1: event:page: ")
