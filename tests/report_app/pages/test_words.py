"""How numbers, changes and values are shown. Pure."""

# ruff: noqa: RUF001  pages show dashes and minus signs

from collections import Counter
from decimal import Decimal

import pytest

from analytics.enrichment.channels import CHANNEL_RULES, UNASSIGNED
from analytics.languages import speaking
from analytics.queries.query import EVENT_DIMENSIONS, VISIT_DIMENSIONS, VISIT_NUMBERS
from analytics.reports.results import Metric, MoneyAmount
from report_app.pages.left_out import ai_crawlers_of, count_left_out, left_out
from report_app.pages.words import (
    CHANNEL_NAMES,
    DIMENSION_NAMES,
    bucket_name,
    change_of,
    countries_called,
    cut_name,
    number,
    tick_name,
    value_name,
)


@pytest.mark.parametrize(
    ("metric", "value", "shown"),
    [("visitors", 38412, "38,412"), ("views_per_visit", 2.54, "2.5"), ("bounce_rate", 41, "41%"),
     ("percentage", 0.4, "<1%"), ("percentage", 0, "0%"), ("visit_duration", 168, "2m 48s"),
     ("visit_duration", 9, "9s"),
     ("visit_duration", 3725, "1h 02m"), ("scroll_depth", None, "–"),
     ("total_revenue", MoneyAmount(Decimal("1450.1"), "EUR"), "€1,450.10"),
     ("sum:props:price", Decimal("1234.125000000"), "1,234.13"), ("sum:props:price", Decimal("-0.000049"), "0"),
     ("sum:props:price", Decimal("0.0123456"), "0.0123"), ("sum:props:price", Decimal("9" * 29), f"{10**29 - 1:,}"),
     ("sum:props:price", Decimal("300.000000000"), "300")],
)  # fmt: skip
def test_numbers(metric: str, value: Metric, shown: str):
    assert number(metric, value) == shown


@pytest.mark.parametrize(
    ("metric", "now", "before", "text", "kind"),
    [("visitors", 118, 100, "+18%", "up"), ("visitors", 97, 100, "−3%", "down"), ("visitors", 5, 5, "0%", ""),
     ("visitors", 5, 0, "new", ""), ("visitors", 0, 0, "–", ""), ("bounce_rate", 41, 43, "−2 pt", "up"),
     ("bounce_rate", 45, 43, "+2 pt", "down"), ("bounce_rate", 100, 0, "new", ""), ("bounce_rate", 0, 0, "–", ""),
     ("visit_duration", None, 3, "–", "")],
)  # fmt: skip
def test_a_change_says_its_direction_and_whether_it_is_good(
    metric: str, now: Metric, before: Metric, text: str, kind: str
):
    change = change_of(metric, now, before)
    assert (change.text, change.kind) == (text, kind)


def test_codes_have_names_and_other_values_stay():
    assert value_name("visit:country", "DE") == "Germany"
    assert value_name("visit:country", "(not set)") == "(not set)"
    assert value_name("visit:region", "US-CA") == "California"
    assert value_name("visit:region", "XX-99") == "XX-99"
    assert value_name("visit:language", "de-AT") == "German (Austria)"
    assert value_name("visit:language", "not a language") == "not a language"
    assert value_name("visit:city", "DE") == "DE"


def test_values_have_names_in_the_spoken_language():
    with speaking("de"):
        assert value_name("visit:country", "DE") == "Deutschland"
        assert value_name("visit:region", "IT-25") == "Lombardei"
        assert value_name("visit:language", "de-AT") == "Deutsch (Österreich)"
        assert value_name("visit:channel", "Organic Search") == "Organische Suche"
        assert value_name("visit:source", "Direct / None") == "Direkt / keine"
        assert value_name("visit:city", "(not set)") == "(nicht angegeben)"
        assert value_name("visit:source", "Organic Search") == "Organic Search", "a visitor sent it"
        assert countries_called("reich") == ["AT", "FR", "GB"], "Österreich, Frankreich, Vereinigtes Königreich"
        assert countries_called("nowhere") == []


def test_every_channel_has_a_name():
    assert set(CHANNEL_NAMES) == {UNASSIGNED, *(name for name, _ in CHANNEL_RULES)}


@pytest.mark.parametrize(
    ("metric", "value", "shown"),
    [("visitors", 38412, "38.412"), ("views_per_visit", 2.54, "2,5"), ("bounce_rate", 41, "41\xa0%"),
     ("percentage", 0.4, "<1\xa0%"), ("visit_duration", 168, "2:48\xa0min"),
     ("visit_duration", 3725, "1:02\xa0h"),
     ("total_revenue", MoneyAmount(Decimal("1450.1"), "EUR"), "1.450,10\xa0€"),
     ("sum:props:price", Decimal("1234.125000000"), "1.234,13")],
)  # fmt: skip
def test_numbers_in_german(metric: str, value: Metric, shown: str):
    with speaking("de"):
        assert number(metric, value) == shown


def test_times_in_german():
    with speaking("de"):
        assert bucket_name("2026-03-21 14:00:00", "hour") == "Sa., 21. März, 14:00"
        assert bucket_name("2026-11-16", "week") == "Woche ab 16. Nov. 2026"
        assert bucket_name("2026-03-01", "month") == "März 2026"
        assert tick_name("2026-03-21", "day", one_day=False) == "21. März"
        assert change_of("visitors", 2180, 100).text == "+2.080\xa0%"


def test_paths_are_cut_in_the_middle_and_other_names_at_the_end():
    assert "".join(cut_name("event:page", "/blog/how-we-count-visitors")) == "/blog/how-we-count-visitors"
    assert cut_name("event:page", "/blog/how-we-count-visitors")[1] == "count-visitors"
    assert cut_name("visit:city", "A city with a really long name") == ("A city with a really long name", "")


def test_every_dimension_of_the_filter_builder_exists():
    assert set(DIMENSION_NAMES) <= {*EVENT_DIMENSIONS, *VISIT_DIMENSIONS, *VISIT_NUMBERS}


def test_buckets_and_ticks():
    assert bucket_name("2026-11-21 14:00:00", "hour") == "Sat 21 Nov, 14:00"
    assert bucket_name("2026-11-16", "week") == "Week of 16 Nov 2026"
    assert bucket_name("2026-11-01", "month") == "November 2026"
    assert tick_name("2026-11-21 14:00:00", "hour", one_day=True) == "14:00"
    assert tick_name("2026-11-21 14:00:00", "hour", one_day=False) == "21 Nov"


def test_ai_crawlers_are_one_reason_and_have_names():
    days = [
        Counter({"accepted": 9, "dropped-later:ai_crawler:GPTBot": 2, "dropped-later:bot": 4}),
        Counter({"dropped-later:ai_crawler:GPTBot": 1, "dropped-later:ai_crawler:ClaudeBot": 5}),
    ]
    assert [(each.name, each.count) for each in left_out(days)] == [("AI crawlers", 8), ("Bots and crawlers", 4)]
    assert [(each.name, each.count) for each in ai_crawlers_of(days)] == [("ClaudeBot", 5), ("GPTBot", 3)]
    by_name = [(each.name, each.count) for each in left_out(days, by_crawler=True)]
    assert by_name == [("AI crawlers: ClaudeBot", 5), ("Bots and crawlers", 4), ("AI crawlers: GPTBot", 3)]
    assert [count_left_out(day) for day in days] == [6, 6]


def test_left_out_is_all_that_does_not_count_and_nothing_else():
    days = [
        Counter({"accepted": 90, "stored": 80, "dropped-later:bot": 7, "duplicate": 2, "dead": 1, "replayed": 3}),
        Counter(
            {"dropped-later:bot": 3, "dropped:refused_by_visitor": 4, "rejected:too_old": 5, "refused:site_quota": 6}
        ),
    ]
    assert [(each.name, each.count) for each in left_out(days)] == [
        ("Bots and crawlers", 10),
        ("Site quota", 6),
        ("Too old", 5),
        ("Refused by the visitor", 4),
        ("Duplicates", 2),
        ("Dead letters", 1),
    ]
    assert [count_left_out(day) for day in days] == [10, 18]
