"""Unmodified clients from PyPI and npm, with the whole running system as their server.

Each sends its events, and the reports have them. If the system fails meanwhile, clients that retry lose no event.
"""

from typing import Any

import httpx
import psutil
import pytest

from tests.support import stock_clients
from tests.support.running_system import System, frozen, wait_for
from tests.support.stock_clients import finish, start

COUNT = 12  # tracks of a client that takes a number
TO_STORE = {  # by script, the names of a site's events and their numbers
    "plausible.mjs": {"pageview": 1, "Purchase": 1, "Tooltip": 1},
    "plausible_python.py": {"pageview": 1, "Saved": 1},
    "umami.mjs": {"pageview": 1, "signup": 1},
    "umami_python.py": {"pageview": 1, "signup": 1, "buy": 1},
    "segment.mjs": {"pageview": 1, "Order Completed": COUNT},
    "segment_python.py": {"pageview": 1, "Order Completed": COUNT},
    "rudder.mjs": {"pageview": 1, "Played": COUNT},
    "rudder_python.py": {"Played": COUNT},
    "segment_browser.mjs": {"pageview": 1, "Signed Up": 1},
}
RETRYING = ("segment.mjs", "segment_python.py", "rudder.mjs", "rudder_python.py")
MANY, PACE = 150, 60  # of each of these, so that they run longer than the outage; milliseconds

pytestmark = pytest.mark.timeout(300)  # the first run installs the clients


@pytest.fixture(scope="module", autouse=True)
def installed() -> None:
    stock_clients.install()


@pytest.fixture(scope="module")
def printed(system: System) -> dict[str, str]:
    """The output of each client, by script. All run at once, each for its own site."""
    running = {script: start(script, system.ingest, script, COUNT, 1) for script in TO_STORE}
    return {script: finish(client) for script, client in running.items()}


def ask(system: System, site: str, dimension: str, *metrics: str, **more: Any) -> dict[str, list[Any]]:
    """A report by the values of a dimension."""
    query = {"site_id": site, "metrics": metrics, "dimensions": [dimension], "date_range": "all", **more}
    answer = httpx.post(f"{system.report}/api/v2/query", json=query)
    assert answer.status_code == 200, answer.text
    return {row["dimensions"][0]: row["metrics"] for row in answer.json()["results"]}


def names(system: System, site: str) -> dict[str, int]:
    return {name: events for name, (events,) in ask(system, site, "event:name", "events").items() if events}


@pytest.mark.parametrize("script", TO_STORE)
def test_reports_show_what_a_stock_client_sends(system: System, printed: dict[str, str], script: str):
    wait_for(lambda: names(system, script) == TO_STORE[script], f"the events of {script} in the report", 10)


PAGES = {  # their page and their campaign
    "plausible.mjs": ("/pricing", "news"),
    "plausible_python.py": ("/start", "news"),
    "umami.mjs": ("/docs", "news"),
    "umami_python.py": ("/docs", "(not set)"),
    "segment.mjs": ("/docs", "(not set)"),
    "segment_python.py": ("/pricing", "news"),
    "segment_browser.mjs": ("/pricing", "news"),
    "rudder.mjs": ("/Cart", "(not set)"),
}


@pytest.mark.parametrize("script", PAGES)
def test_reports_show_pages_and_campaigns_of_stock_clients(system: System, printed: dict[str, str], script: str):
    page, source = PAGES[script]
    views = [["is", "event:name", ["pageview"]]]
    found = ask(system, script, "event:page", "pageviews", filters=views)
    assert {path: count for path, (count,) in found.items()} == {page: 1}
    found = ask(system, script, "visit:utm_source", "pageviews", filters=views)
    assert {name: count for name, (count,) in found.items()} == {source: 1}


def documents(system: System, site: str) -> dict[str, dict[str, Any]]:
    """The stored events of a site, the last one of each name."""
    with system.database() as database:
        return {found["event_type"]: found for found in database["events"].find({"site_id": site})}


def test_the_plausible_tracker_sends_props_revenue_and_engagement(system: System, printed: dict[str, str]):
    assert printed["plausible.mjs"] == "[202,202]\n"
    site = "plausible.mjs"
    wait_for(lambda: "engagement" in documents(system, site), "the engagement")
    stored = documents(system, site)
    assert stored["Purchase"]["props"] == {"theme": "dark", "plan": "pro"}
    assert str(stored["Purchase"]["revenue"]["amount"]) == "10.500"
    assert stored["Tooltip"]["interactive"] is False
    assert stored["engagement"]["engagement_time"] > 0
    assert {event["referrer"] for event in stored.values() if "referrer" in event} == {"https://search.example/"}
    assert len({event["visitor_id"] for event in stored.values()}) == 1


def test_one_visitor_of_the_plausible_python_client_counts_once(system: System, printed: dict[str, str]):
    site = "plausible_python.py"
    assert len({event["visitor_id"] for event in documents(system, site).values()}) == 1


def test_umamis_clients_get_the_answer_that_they_read(system: System, printed: dict[str, str]):
    assert printed["umami.mjs"].count('"cache":') == printed["umami.mjs"].count('"sessionId":') == 3
    wait_for(lambda: "buy" in documents(system, "umami_python.py"), "the revenue")
    stored = documents(system, "umami_python.py")
    assert stored["buy"]["revenue"]["currency"] == "EUR"
    assert {event["user_id"] for event in stored.values()} == {"ann"}
    assert documents(system, "umami.mjs")["signup"]["props"] == {"plan": "pro", "cart.items": 2}


def test_segment_s_clients_send_users_revenue_and_props(system: System, printed: dict[str, str]):
    for site in ("segment.mjs", "segment_python.py"):
        assert ask(system, site, "event:name", "visitors")["Order Completed"] == [3]
        assert sorted(ask(system, site, "event:props:n", "events")) == sorted([*map(str, range(COUNT)), "(none)"])
    assert documents(system, "segment.mjs")["Order Completed"]["revenue"]["currency"] == "EUR"


def test_segment_s_browser_library_needs_only_our_address(system: System, printed: dict[str, str]):
    assert printed["segment_browser.mjs"].split() == [
        "/v1/projects/segment_browser.mjs/settings", "/v1/p", "/v1/t", "/v1/i",
    ]  # fmt: skip
    assert ask(system, "segment_browser.mjs", "visit:utm_campaign", "visitors") == {"spring": [1]}
    output = finish(start("segment_browser.mjs", system.ingest, "batching", "batch"))
    assert set(output.split()) == {"/v1/projects/batching/settings", "/v1/b"}
    wait_for(lambda: names(system, "batching") == TO_STORE["segment_browser.mjs"], "the batch in the report", 10)


def test_clients_that_send_again_neither_lose_nor_duplicate_an_event(system: System):
    """Redis is frozen, so hits that may have been written are answered with 503. Then every process of the collector is
    killed, so hits are not answered at all.
    """
    sites = {script: f"outage {script}" for script in RETRYING}
    running = {script: start(script, system.ingest, site, MANY, PACE) for script, site in sites.items()}
    try:
        for site in sites.values():
            wait_for(lambda site=site: names(system, site), f"the first events of {site}")
        with frozen([psutil.Process(system.redis().info("server")["process_id"])]):
            wait_for(lambda: httpx.get(f"{system.ingest}/readyz").status_code == 503, "a collector that says no")
            assert httpx.get(f"{system.ingest}/readyz").status_code == 503
        collector = system.part("ingest_app.wsgi")
        assert len(collector) > 1
        for process in collector:
            process.kill()
        assert all(client.poll() is None for client in running.values()), "a client was through before all went wrong"
    finally:
        for client in running.values():
            finish(client, 60)
    for script, site in sites.items():
        expected = {name: MANY if events == COUNT else events for name, events in TO_STORE[script].items()}
        wait_for(lambda site=site, expected=expected: names(system, site) == expected, f"all events of {site}", 20)
        numbers = ask(system, site, "event:props:n", "events")
        numbers.pop("(none)", None)
        assert numbers == {str(n): [1] for n in range(MANY)}
