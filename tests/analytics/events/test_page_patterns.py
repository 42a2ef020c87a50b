"""The wildcards of goals, funnel steps and excluded paths."""

import random
import re
from time import process_time

import pytest
import re2

from analytics.events.page_patterns import matches, page_pattern


def test_a_pattern_matches_pages_as_in_goals():
    assert matches(("/admin/*", "/draft**"), "/admin/users")
    assert not matches(("/admin/*", "/draft**"), "/admin/users/1")
    assert matches(("/admin/*", "/draft**"), "/drafts/2026/a\nb")
    assert not matches(("/a.c",), "/abc")
    assert not matches((), "/a")


def test_wildcards_match_in_every_order():
    """Compared with the plain expression, which would take for ever for some patterns."""
    plain = {"**": ".*", "*": "[^/]*"}
    drawn = random.Random(7)
    for _ in range(20_000):
        pattern = "".join(drawn.choices(["a", "b", "/", "*", "**"], k=drawn.randint(0, 8)))
        path = "".join(drawn.choices("aab/", k=drawn.randint(0, 10)))
        expression = "".join(plain.get(part, part) for part in re.split(r"(\*\*|\*)", pattern))
        assert matches([pattern], path) == bool(re.fullmatch(expression, path)), (pattern, path)
        assert matches([pattern], path) == bool(re2.fullmatch(page_pattern(pattern), path)), (pattern, path)


@pytest.mark.parametrize("wildcard", ["*", "**"])
def test_no_pattern_is_slow_for_any_path(wildcard: str):
    """Six wildcards took a minute for 150 characters, and this is the longest path."""
    began = process_time()
    assert not matches([wildcard.join("a" * 500) + "b"], "a" * 2048)
    assert not matches([f"{wildcard}a" * 10 + "b"], "a" * 2048)
    assert process_time() - began < 2
