"""Patterns of pages: the page of a goal or of a funnel's step, a site's excluded paths, and its rules for paths. Pure.

`*` stands for any text within a part of the path, and `**` for any text. Workers match each event with Python's
regular expressions, and queries match in DuckDB with RE2.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache


def page_pattern(page: str) -> str:
    """Return the pattern as a regular expression of RE2 for a whole path."""
    parts = re.split(r"(\*\*|\*)", page)
    return "".join({"**": "(?s:.*)", "*": "[^/]*"}.get(part) or re.escape(part) for part in parts)


def matches(patterns: Sequence[str], path: str) -> bool:
    """Whether one of the patterns matches the page."""
    return bool(patterns) and _any_of(tuple(patterns)).fullmatch(path) is not None


@dataclass(frozen=True, slots=True)
class PathRules:
    """A site's rules for paths. `drops_slash`: `/pricing/` becomes `/pricing`. `lowers`: `/Pricing` becomes `/pricing`.
    `merged`: pages that count as one, such as `/user/:id`, where `:name` stands for one part of a path. A path that the
    rules have changed stays as it is if they are applied again.
    """

    drops_slash: bool = False
    lowers: bool = False
    merged: tuple[str, ...] = ()

    def apply(self, path: str) -> str:
        """Return the page that counts. The query of the path stays."""
        page, mark, query = path.partition("?")
        if self.drops_slash:
            page, hash_sign, route = page.partition("#")
            route = route.rstrip("/")
            page = (page.rstrip("/") or "/") + (hash_sign + route if route else "")
        if self.lowers:
            page = page.lower()
        return self._merge(page) + mark + query

    def _merge(self, page: str) -> str:
        """Return the first rule that fits the page, or else the page."""
        found = _any_rule(self.merged).fullmatch(page) if self.merged else None
        return page if found is None else self.merged[(found.lastindex or 1) - 1]


@lru_cache(maxsize=1000)
def _any_rule(rules: tuple[str, ...]) -> re.Pattern[str]:
    parts = (re.split(r"(?<=/):[A-Za-z_]\w*(?=/|$)", rule) for rule in rules)
    return re.compile("|".join(f"({'[^/]+'.join(map(re.escape, literals))})" for literals in parts))


@lru_cache(maxsize=1000)
def _any_of(patterns: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(map(_expression, patterns)), re.DOTALL)


def _expression(pattern: str) -> str:
    """The pattern as a regular expression of Python's, which tries one choice after another. RE2 tries all at once.

    A wildcard takes as little text as what follows it allows, and does not take more later: `(?>...)`. More would
    not help, because the next wildcard takes the rest. Trying more takes time that doubles with each wildcard. Only the
    last wildcard must try, because what follows it must be at the end.
    """
    first, *others = pattern.split("**")
    if not others:
        return _part(first, is_last=True)
    *between, last = others
    return _part(first) + "".join(f"(?>.*?{_part(each)})" for each in between) + f".*?{_part(last, is_last=True)}"


def _part(pattern: str, *, is_last: bool = False) -> str:
    first, *others = map(re.escape, pattern.split("*"))
    end = f"[^/]*{others.pop()}" if is_last and others else ""
    return first + "".join(f"(?>[^/]*?{each})" for each in others) + end
