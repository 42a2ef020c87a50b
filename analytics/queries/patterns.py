"""Checks the cost of a query's regular expressions before DuckDB, which has no limit, compiles them.

google-re2 is the engine that DuckDB uses. Here, compiling stops at MOST_MEMORY, after 5 ms or less. DuckDB would use 8
MB, and seconds in each of its threads. Raises InvalidQuery with the place of the filter.
"""

from collections.abc import Iterable
from functools import cache

import re2

from analytics.languages import joined, translatable
from analytics.queries.query import Condition, Filter, conditions
from analytics.queries.query_schema import InvalidQuery

MOST_MEMORY = 256 * 1024  # bytes of one pattern: about 10,000 instructions
MOST_INSTRUCTIONS = 3_000  # of all patterns of a query; `\pL` has 1,200, a hundred words have 500
MOST_CHARACTERS = 8_192  # of all patterns of a query; parsing the worst 2,048 takes 25 ms
FLAGS = {True: "c", False: "i"}  # DuckDB's flags, by Condition.case_sensitive

INVALID_PATTERN = translatable("Invalid regular expression: %(error)s")
_TOO_LARGE = translatable(
    "The regular expression is too large. All expressions of one query may have %(most)s instructions, and this one"
    " brings the total to %(found)s. A repetition such as {1000} multiplies what it repeats, and \\pL counts as 1,200."
    " Use smaller repetitions, * or contains."
)
_TOO_LONG = translatable("The regular expressions of one query may have %(most)s characters in total. Shorten them.")


def check_patterns(filters: Iterable[Filter]) -> None:
    """Check that the patterns are regular expressions, and together within the limits. Raises InvalidQuery."""
    characters = instructions = 0
    for condition in conditions(tuple(filters)):
        if condition.operator != "matches":
            continue
        for pattern in condition.values:
            characters += len(pattern)
            if characters > MOST_CHARACTERS:
                raise _refused(condition, translatable(_TOO_LONG, most=f"{MOST_CHARACTERS:,}"))
            instructions += _size(condition, pattern)
            if instructions > MOST_INSTRUCTIONS:
                raise _refused(condition, _too_large(f"{instructions:,}"))


def _size(condition: Condition, pattern: str) -> int:
    try:
        return int(re2.compile(pattern, _options(condition.case_sensitive)).programsize)
    except re2.error as error:
        said = error.args[0].decode(errors="replace") if isinstance(error.args[0], bytes) else str(error)
        if "too large" in said:
            raise _refused(condition, _too_large("more")) from None
        raise _refused(condition, translatable(INVALID_PATTERN, error=said)) from None
    finally:
        re2.purge()  # re2 would keep the last 128 patterns


@cache
def _options(case_sensitive: bool) -> re2.Options:
    options = re2.Options()
    options.max_mem = MOST_MEMORY
    options.case_sensitive = case_sensitive
    options.log_errors = False
    return options


def _too_large(found: str) -> str:
    return translatable(_TOO_LARGE, most=f"{MOST_INSTRUCTIONS:,}", found=found)


def _refused(condition: Condition, message: str) -> InvalidQuery:
    return InvalidQuery(condition.place, joined(f"{condition.dimension}: ", message))
