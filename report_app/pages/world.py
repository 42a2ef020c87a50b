"""The map of the dashboard: its countries in shades by visitors. Pure.

`static/vendor/world.svg` has the shapes. tests/support/world_map.py draws them.
"""

from dataclasses import dataclass

from analytics.languages import format_number
from analytics.queries.query import missing
from analytics.queries.query_schema import COUNTRY
from analytics.reports.results import Answer
from report_app.pages.page_state import PageState
from report_app.pages.words import value_name

_DIMENSION = "visit:country"
_SHADES = 5
_RATIO = 3  # between a shade's least count and that of the next: few countries have most of the visitors


@dataclass(frozen=True, slots=True)
class Land:
    """A country with visitors. `shade` is from 1 to 5. `link` is the query string of the page that it filters."""

    code: str
    name: str
    visitors: int
    shade: int
    link: str


@dataclass(frozen=True, slots=True)
class World:
    """`legend` has each shade that is used, with the least number of visitors that it stands for."""

    lands: list[Land]
    legend: list[tuple[int, str]]


def world_of(state: PageState, answer: Answer) -> World:
    found = {row.dimensions[0]: row.metrics[0] for row in answer.rows if row.dimensions[0] != missing(_DIMENSION)}
    counts = {code: count for code, count in found.items() if COUNTRY.fullmatch(code) and isinstance(count, int)}
    least = least_of_shades(max(counts.values(), default=0))
    lands = [_land(state, code, count, least) for code, count in counts.items()]
    used = {land.shade for land in lands}
    return World(lands, [(shade, format_number(least[shade])) for shade in sorted(used)])


def least_of_shades(largest: int) -> dict[int, int]:
    """The least number of visitors of each shade, if `largest` is that of the country with the most. Few visitors need
    fewer shades.
    """
    least = {_SHADES - n: largest // _RATIO ** (n + 1) + 1 for n in range(_SHADES)}
    return {shade: count if shade > 1 else 1 for shade, count in least.items()}


def _land(state: PageState, code: str, count: int, least: dict[int, int]) -> Land:
    shade = max(shade for shade, needed in least.items() if count >= needed)
    link = state.with_filter(_DIMENSION, code).as_query()
    return Land(code.upper(), value_name(_DIMENSION, code), count, shade, link)
