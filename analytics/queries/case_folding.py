"""What "ignoring case" means in a filter: Unicode's simple case folding, which RE2's (?i) uses. Pure.

Each character is folded to one character. So the three forms of sigma are the same, and so are ß and ẞ; ss and ß are
not, and accents stay. The Turkish dotted capital I and dotless small i are equal to themselves only. `is`, `contains`
and `matches` therefore find the same texts.
"""

# SQL for a text in place of {}. DuckDB's lower(upper(x)) is simple case folding, except that it folds the two Turkish
# letters to i. Noncharacters, which Unicode reserves for use inside a program, keep them apart from it. For a column
# with a dictionary, DuckDB evaluates this once for each entry; a regular expression, once for each row.
FOLDED_SQL = "lower(upper(replace(replace({}, '\u0130', '\ufdd0'), '\u0131', '\ufdd1')))"


def folded(text: str) -> str:
    """Two texts are equal if, and only if, they are equal as FOLDED_SQL."""
    return "".join(map(_folded, text))


def _folded(character: str) -> str:
    for one in (character.casefold(), character.lower()):
        if len(one) == 1:
            return one
    return character
