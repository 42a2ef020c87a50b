"""The map has the numbers of the API, and shapes for the countries of the world."""

import re
from typing import Any

import pycountry
import pytest
from flask.testing import FlaskClient
from pymongo.database import Database

from analytics.reports.results import Answer, Row
from report_app.pages.assets import ASSETS
from report_app.pages.page_state import PageState
from report_app.pages.world import least_of_shades, world_of
from tests.support.services import tell

SHAPES = set(re.findall(r'id="([A-Z]{2})"', ASSETS["world.svg"].read_text()))
# Natural Earth draws these as parts of other countries, or not at all.
WITHOUT_SHAPE = {"AQ", "BQ", "BV", "CC", "CX", "GF", "GI", "GP", "MQ", "RE", "SJ", "TK", "TV", "UM", "YT"}


def counted(**visitors: int) -> Answer:
    return Answer(tuple(Row((code,), (count,)) for code, count in visitors.items()))


def test_every_country_has_a_shape():
    assert {country.alpha_2 for country in pycountry.countries} - SHAPES == WITHOUT_SHAPE


@pytest.mark.parametrize(
    ("largest", "least"),
    [(0, [1, 1, 1, 1, 1]), (1, [1, 1, 1, 1, 1]), (9, [1, 1, 1, 2, 4]), (1000, [1, 13, 38, 112, 334])],
)
def test_a_shade_stands_for_three_times_as_many_visitors_as_the_one_before(largest: int, least: list[int]):
    assert [least_of_shades(largest)[shade] for shade in range(1, 6)] == least


def test_countries_have_the_shade_of_their_visitors_and_the_legend_names_those_in_use():
    world = world_of(PageState("7d"), counted(DE=1000, FR=334, us=333, IS=1, **{"(not set)": 5000}))
    assert [(land.code, land.name, land.visitors, land.shade) for land in world.lands] == [
        ("DE", "Germany", 1000, 5), ("FR", "France", 334, 5), ("US", "United States", 333, 4),
        ("IS", "Iceland", 1, 1),
    ]  # fmt: skip
    assert world.legend == [(1, "1"), (4, "112"), (5, "334")]
    assert world.lands[2].link == "period=7d&f=is,country,us"
    assert world_of(PageState("7d"), counted()).legend == []


def test_the_map_has_the_numbers_of_the_api(report: FlaskClient, database: Database[dict[str, Any]]):
    visits = [("DE", "a"), ("DE", "b"), ("FR", "c"), (None, "d"), ("DE", "a")]
    tell(
        database, *({"at": f"22 10:0{n}:00", "user_id": who, "country": where} for n, (where, who) in enumerate(visits))
    )
    page = report.get("/parts/world/shop?period=7d&f=is,device,(not set)").text
    assert re.findall(r"<title>(.*?)</title>", page) == ["Germany: 2 visitors", "France: 1 visitor"]
    assert "world.svg?v=" in page
    assert "f=is,device,%28not+set%29&amp;f=is,country,DE" in page
    assert "No country in this period" in report.get("/parts/world/shop?period=7d&f=is,page,/nowhere").text
