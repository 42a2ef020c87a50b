"""Each format, with a small sample made by hand and its totals counted by hand."""

import json
import tracemalloc
from hashlib import blake2b
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from analytics.imports.format import SourceEvent
from analytics.imports.formats import IMPORT_FORMATS, detect
from analytics.imports.ga4 import GA4_EXPORT
from analytics.imports.source import SourceFile, UnreadableFile
from analytics.sites.site import Site
from tests.analytics.imports.conftest import SAMPLES, Imports

# Files, format, what is left out, and the totals: visitors, visits, pageviews, all events.
CASES: dict[str, tuple[tuple[str, ...], str, dict[str, int], list[int]]] = {
    "umami": (
        ("umami_website_event.csv", "umami_session.csv", "umami_event_data.csv"),
        "umami",
        {"other_type": 1, "other_site": 1},
        [3, 4, 5, 6],
    ),
    "combined": (("access.log",), "log", {"asset": 1, "not_a_get": 2, "not_successful": 1}, [3, 3, 5, 5]),
    "nginx": (("nginx.json.log",), "log", {"asset": 1, "not_readable": 1}, [1, 1, 2, 2]),
    "caddy": (("caddy.log",), "log", {"not_readable": 1}, [1, 1, 2, 2]),
    "matomo": (("matomo.json",), "matomo", {"goal": 1}, [2, 2, 3, 6]),
    "goatcounter": (("goatcounter.csv",), "goatcounter", {"bot": 1}, [2, 2, 4, 5]),
    "segment": (("segment.jsonl",), "segment", {"identify": 1, "no_message_id": 1}, [2, 2, 2, 3]),
    "posthog": (("posthog.jsonl",), "posthog", {"of_posthog_itself": 1}, [2, 2, 2, 3]),
    "ga4": (("ga4.jsonl",), "ga4", {"automatic_event": 1}, [2, 2, 3, 4]),
}


@pytest.mark.parametrize("case", CASES)
def test_the_totals_of_a_sample_are_those_counted_by_hand(imports: Imports, case: str):
    names, form, skipped, totals = CASES[case]
    imports.services.sites.put(Site("shop", domains=("shop.example",)))
    plan = imports.plan(*names)
    assert plan.format.name == form
    record = imports.run(*names)
    assert (record.skipped, imports.totals(), imports.faults()) == (skipped, totals, [])
    before = imports.stored()
    assert imports.run(*names).skipped == skipped
    assert imports.stored() == before, "a repeated import changes nothing"
    assert imports.faults() == []


def test_every_format_has_a_sample():
    assert {form for _, form, _, _ in CASES.values()} | {"footfall", "plausible"} == set(IMPORT_FORMATS)


def test_umami_s_sessions_describe_its_events(imports: Imports):
    imports.run("umami_session.csv", "umami_website_event.csv")
    rows = imports.ask(["visitors", "pageviews"], "visit:browser", "visit:os", "visit:device", "visit:region")
    assert sorted(rows) == [
        ["Chrome", "Windows", "Desktop", "DE-BE", 1, 3],
        ["Firefox", "macOS", "Laptop", "(not set)", 1, 1],
        ["Safari", "iOS", "Mobile", "US-CA", 1, 1],
    ]
    assert sorted(imports.ask(["visits"], "visit:source", "visit:utm_campaign")) == [
        ["Direct / None", "(not set)", 2],
        ["Google", "(not set)", 1],
        ["newsletter", "autumn", 1],
    ]
    assert sorted(imports.ask(["events"], "event:props:title")) == [
        ['He said "hello"', 1],
        ["Pricing", 2],
        ["Shop, home", 3],
    ]


def test_umami_s_event_data_become_properties_with_their_types_and_revenue(imports: Imports):
    imports.run("umami_event_data.csv", "umami_website_event.csv", "umami_session.csv")
    (signup,) = (event for event in imports.stored() if event["event_type"] == "signup")
    kept = {"plan": "pro, yearly", "seats": 3, "trial": True, "title": "Pricing"}
    kept |= {"since": "2026-11-01T00:00:00Z", "items": '["a","b"]', "tag": "beta"}
    assert signup["props"] == kept
    assert signup["revenue"]["currency"] == "USD"
    assert sorted(imports.ask(["events"], "event:props:cart.value")) == [["(none)", 5], ["12.5", 1]]


@pytest.mark.parametrize("key", ["website_event_id", "event_id"])
def test_umami_s_event_data_of_both_databases_are_recognised(tmp_path: Path, key: str):
    """ClickHouse's table has the ids of session and event."""
    text = (SAMPLES / "umami_event_data.csv").read_text().replace("website_event_id", f"session_id,{key}")
    (tmp_path / "data.csv").write_text(text.replace(",0b6e3ff2", ",s,0b6e3ff2"))
    assert detect([SourceFile(tmp_path / "data.csv")]).name == "umami"


def test_another_of_umami_s_websites_can_be_chosen(imports: Imports):
    record = imports.run("umami_website_event.csv", owner="99999999-ae32-47f1-8400-119fcf4861c4")
    assert (record.events, record.skipped) == (1, {"other_site": 6, "other_type": 1})
    assert imports.ask(["pageviews"], "event:page") == [["/other", 1]]


def test_a_log_gives_pages_browsers_and_sources_and_no_address_is_stored(imports: Imports):
    imports.services.sites.put(Site("shop", domains=("shop.example",)))
    imports.run("access.log")
    assert sorted(imports.ask(["pageviews"], "event:page")) == [["/", 2], ['/blog/"quoted"', 1], ["/pricing", 2]]
    assert sorted(imports.ask(["visits"], "visit:source", "visit:browser")) == [
        ["Direct / None", "Firefox", 1],
        ["Direct / None", "Safari", 1],
        ["newsletter", "Firefox", 1],
    ]
    written = json.dumps([imports.stored(), list(imports.database["imports"].find())], default=str)
    assert "203.0.113" not in written
    assert "Mozilla" not in written
    (record,) = imports.database["imports"].find()
    assert "salt" not in record, "with the salt, an address could be guessed"


@pytest.mark.parametrize(
    ("begin", "address"),
    [
        ("203.0.113.7 - John Smith", "203.0.113.7"),
        ("shop.example:443 203.0.113.7 - John Smith", "203.0.113.7"),
        ("[2001:db8::1] - -", "2001:db8::1"),
    ],
)
def test_the_user_of_a_log_may_contain_spaces(begin: str, address: str):
    line = f'{begin} [02/Nov/2026:09:00:00 +0000] "GET /p HTTP/1.1" 200 9 "-" "Mozilla/5.0"'
    (found,) = IMPORT_FORMATS["log"].translate(("key", line))
    assert isinstance(found, SourceEvent)
    assert found.client.address == address


def test_matomo_s_origin_orders_and_clicks(imports: Imports):
    imports.run("matomo.json")
    assert sorted(imports.ask(["visits"], "visit:source", "visit:utm_campaign")) == [
        ["Google", "(not set)", 1],
        ["newsletter", "autumn", 1],
    ]
    rows = imports.ask(["events"], "event:name")
    assert sorted(rows) == [["Order", 1], ["Outbound Link: Click", 1], ["compare", 1], ["pageview", 3]]
    (order,) = imports.database["events"].find({"event_type": "Order"})
    assert (str(order["revenue"]["amount"]), order["revenue"]["currency"]) == ("49.900", "EUR")
    assert (order["user_id"], order["props"]) == ("ann", {"order_id": "A-17", "items": 2})


def test_goatcounter_s_rows_that_are_alike_are_two_pageviews(imports: Imports):
    imports.run("goatcounter.csv")
    assert sorted(imports.ask(["events"], "event:name", "event:page")) == [
        ["pageview", "/", 1],
        ["pageview", "/blog/hello", 1],
        ["pageview", "/pricing", 2],
        ["signup", "(not set)", 1],
    ]
    assert sorted(imports.ask(["visits"], "visit:source", "visit:browser", "visit:os_version")) == [
        ["Hacker News", "Safari", "18", 1],
        ["newsletter", "Firefox", "(not set)", 1],
    ]


def test_a_message_that_segment_s_client_sent_already_is_a_duplicate(imports: Imports, ingest: Any):
    first, *_ = (SAMPLES / "segment.jsonl").read_text().splitlines()
    assert ingest.post("/v1/page", json=json.loads(first) | {"writeKey": "shop"}).status_code == 200
    imports.run("segment.jsonl")
    assert imports.totals() == [2, 2, 2, 3]


def test_posthog_s_persons_are_visitors(imports: Imports):
    imports.run("posthog.jsonl")
    assert sorted(imports.ask(["visitors", "events"], "visit:source")) == [
        ["Direct / None", 1, 1],
        ["newsletter", 1, 2],
    ]
    (signed,) = imports.database["events"].find({"event_type": "signed up"})
    assert signed["props"] == {"plan": "pro"}


@pytest.mark.parametrize("nested", [False, True])
def test_ga4_s_parquet_gives_the_same_as_its_json(imports: Imports, tmp_path: Path, nested: bool):
    rows = [json.loads(line) for line in (SAMPLES / "ga4.jsonl").read_text().splitlines()]
    for row in rows:
        row["event_timestamp"] = int(row["event_timestamp"])
        for each in row["event_params"]:
            each["value"] = {"string_value": None, "int_value": None, "double_value": None} | each["value"]
        if nested:
            row["event_params"] = {"list": [{"element": each} for each in row["event_params"]]}
    rows = [{name: row.get(name) for name in rows[1] | rows[3]} for row in rows]
    pyarrow.parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "events_20261102.parquet")
    assert imports.run(tmp_path / "events_20261102.parquet").skipped == {"automatic_event": 1}
    assert imports.totals() == [2, 2, 3, 4]
    revenue = imports.ask(["visits"], "visit:country", "visit:browser")
    assert sorted(revenue) == [["(not set)", "(not set)", 1], ["DE", "Firefox", 1]]


values = st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text(max_size=9)
values |= st.floats(allow_nan=False, allow_infinity=False) | st.sampled_from([1e-4, 9e-5, 1e16, 1e15, -0.0, 5e-324])
values |= st.sampled_from(["1e5", "\x7f", "\u00fc", "\b\f\x1f</", "\U0001f600"])


@examples(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    row=st.dictionaries(
        st.text(max_size=4),
        st.recursive(
            values,
            lambda x: st.lists(x, max_size=3) | st.dictionaries(st.text(max_size=4), x, max_size=3),
            max_leaves=6,
        ),
        max_size=5,
    )
)
def test_the_keys_of_ga4_s_rows_are_those_of_version_0_1(tmp_path: Path, row: dict[str, Any]):
    """Otherwise a file that was imported before would count twice. They are hashes of what Python's json writes."""
    row |= {"event_timestamp": "1762070400000000", "item": {"b": "x", "a": 1}}
    (tmp_path / "row").write_text(json.dumps(row))
    ((key, _),) = GA4_EXPORT.read([SourceFile(tmp_path / "row")])
    assert key == f"{blake2b(json.dumps(row, sort_keys=True).encode(), digest_size=16).hexdigest()}-0"


def test_unknown_countries_of_ga4_do_not_fill_the_memory():
    row = {"event_name": "page_view", "event_params": [], "event_timestamp": "1762070400000000"}
    tracemalloc.start()
    for number in range(1500):
        list(GA4_EXPORT.translate(("key", row | {"geo": {"country": f"{number} " + "x" * 10_000}})))
    assert tracemalloc.get_traced_memory()[0] < 4_000_000
    tracemalloc.stop()


def test_a_file_of_no_format_is_refused_with_the_names_of_the_formats(tmp_path: Path):
    (tmp_path / "notes.txt").write_text("milk, bread\n")
    with pytest.raises(UnreadableFile, match=r"No format fits .*notes\.txt\. Name it with --format: footfall, umami"):
        detect([SourceFile(tmp_path / "notes.txt")])
    with pytest.raises(UnreadableFile, match="No format fits"):
        detect([SourceFile(SAMPLES / "matomo.json"), SourceFile(SAMPLES / "access.log")])


@pytest.mark.parametrize("name", sorted(IMPORT_FORMATS))
@pytest.mark.parametrize(
    "hostile",
    [
        {}, {"event": None}, {"request": {"uri": 7}}, {"actionDetails": [7, None, {"timestamp": "x"}]},
        {"type": "page", "messageId": {"a": 1}, "properties": 7}, {"status": "x", "uri": "/", "msec": "1e999"},
        {"event_params": [{"key": None, "value": 7}], "event_name": "x", "event_timestamp": "9" * 30},
        {"properties": "[", "event": "x", "distinct_id": 1, "timestamp": []}, {"props": {"\ud800": "\ud800"}},
    ],
)  # fmt: skip
def test_a_hostile_row_is_left_out_with_a_reason(imports: Imports, tmp_path: Path, name: str, hostile: dict[str, Any]):
    (tmp_path / "hostile").write_text(json.dumps(hostile) + "\n")
    record = imports.run(tmp_path / "hostile", name=name)
    assert record.events == 0
    assert sum(record.skipped.values()) <= 3
