"""`is`, `contains` and `matches` ignore case in the same way, for every character."""

import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import permutations

import duckdb
import pyarrow
import pytest

from analytics.queries.case_folding import FOLDED_SQL, folded

SURROGATES = range(0xD800, 0xE000)
STAND_INS = "\ufdd0\ufdd1"  # noncharacters, which the SQL uses for the Turkish letters
CHARACTERS = [chr(n) for n in range(1, 0x110000) if n not in SURROGATES and chr(n) not in STAND_INS]


@pytest.fixture
def duck() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        yield connection


def ask(duck: duckdb.DuckDBPyConnection, sql: str, **columns: list[str]) -> list[tuple[str, ...]]:
    """The rows of `sql`, a SELECT from the table `given`."""
    duck.register("given", pyarrow.table(columns))
    return duck.execute(sql).fetchall()


def classes(folds: Iterable[tuple[str, str]]) -> set[frozenset[str]]:
    """The sets of several characters with the same fold."""
    found: dict[str, str] = defaultdict(str)
    for character, fold in folds:
        found[fold] += character
    return {frozenset(same) for same in found.values() if len(same) > 1}


def relatives(character: str) -> set[str]:
    """The other characters that some way of folding, lowering or normalizing makes of a character."""
    ways = (str.lower, str.upper, str.casefold, str.title, lambda x: unicodedata.normalize("NFKC", x))
    plain = unicodedata.normalize("NFD", character)[:1]  # without its accent
    return {one for one in (plain, *(way(character) for way in ways)) if len(one) == 1} - {character, *STAND_INS}


def test_python_and_sql_fold_every_character_alike(duck: duckdb.DuckDBPyConnection):
    by_sql = ask(duck, f"SELECT a, {FOLDED_SQL.format('a')} FROM given", a=CHARACTERS)
    assert classes(by_sql) == classes((character, folded(character)) for character in CHARACTERS)


def test_a_regular_expression_finds_the_same_characters(duck: duckdb.DuckDBPyConnection):
    """For all equal pairs, and all pairs that another way of folding would make equal."""
    same = {pair for some in classes((c, folded(c)) for c in CHARACTERS) for pair in permutations(some, 2)}
    near = {(c, other) for c in CHARACTERS if unicodedata.category(c) != "Cn" for other in relatives(c)}
    pairs = sorted(same | near | {(b, a) for a, b in near})
    assert len(pairs) > 5_000
    sql = "SELECT a, b FROM given WHERE regexp_full_match(a, regexp_escape(b), 'i')"
    assert set(ask(duck, sql, a=[a for a, _ in pairs], b=[b for _, b in pairs])) == same


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("/οδος", "/ΟΔΟΣ", True),
        ("ς", "\u03c3", True),
        ("straße", "STRAẞE", True),
        ("straße", "STRASSE", False),
        ("\u212a", "k", True),  # the Kelvin sign
        ("\u017f", "S", True),  # long s
        ("µ", "μ", True),  # micro sign, Greek letter
        ("\u01c5", "\u01c6", True),  # one letter, title case and lower case
        ("\u13a0", "\uab70", True),  # Cherokee
        ("é", "e", False),
        ("É", "é", True),
        ("e\u0301", "É", False),
        ("\u0130", "i", False),
        ("\u0130", "I", False),
        ("\u0131", "I", False),
        ("\u0131", "\u0131", True),
        ("ﬀ", "ff", False),
    ],
)
def test_texts_that_are_equal_without_case(duck: duckdb.DuckDBPyConnection, one: str, other: str, same: bool):
    assert (folded(one) == folded(other)) is same
    assert ask(duck, f"SELECT {FOLDED_SQL.format('a')} = {FOLDED_SQL.format('b')} FROM given", a=[one], b=[other]) == [
        (same,)
    ]
