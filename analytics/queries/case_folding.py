"""Case-insensitive comparison in filters: Unicode's simple case folding, which RE2's (?i) uses. Pure.

Each character is folded to one character. The three forms of sigma are equal, and so are ß and ẞ. ss and ß are
different, and accents stay. The Turkish dotted capital I and dotless small i are equal only to themselves. `is`,
`contains` and `matches` therefore find the same texts.
"""

# SQL that folds the text in place of {}. DuckDB's lower(upper(x)) is simple case folding, except that it folds the two
# Turkish letters to i. Noncharacters, which Unicode reserves for use inside a program, keep them separate. For a column
# with a dictionary, DuckDB evaluates this once for each entry, and a regular expression once for each row.
FOLDED_SQL = "lower(upper(replace(replace({}, '\u0130', '\ufdd0'), '\u0131', '\ufdd1')))"


def folded(text: str) -> str:
    """Return the folded text. Two folded texts are equal if, and only if, FOLDED_SQL of both is equal."""
    return "".join(map(_folded, text))


def _folded(character: str) -> str:
    for one in (character.casefold(), character.lower()):
        if len(one) == 1:
            return one
    return character
