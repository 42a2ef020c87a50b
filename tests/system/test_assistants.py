"""/mcp of a running system, asked by the client of the official SDK, in both generations of the protocol."""

import json
from collections.abc import Iterator
from typing import Any

import anyio
import httpx
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared._httpx_utils import create_mcp_http_client

from tests.support.running_system import System, system_running, wait_for
from tests.support.services import ADMIN_KEY

ADMIN = {"Authorization": f"Bearer {ADMIN_KEY}"}
SITES = ("shop", "blog", "secret")
GENERATIONS = ["legacy", "auto"]


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """A system with a pageview of two visitors, and an order of one of them, on each site."""
    with system_running(
        tmp_path_factory.mktemp("system"), ADMIN_KEY=ADMIN_KEY, REPORT_KEY="a-report-key-for-tests"
    ) as it:
        with httpx.Client(headers=ADMIN) as http:
            for site in SITES:
                goals = [{"event_type": "order", "name": "Bought"}]
                http.put(f"{it.report}/admin/sites/{site}", json={"goals": goals}).raise_for_status()
            pages = [{"event_type": "pageview", "path": "/", "user_id": who} for who in ("ann", "bob")]
            events = [*pages, {"event_type": "order", "path": "/thanks", "user_id": "ann"}]
            every = [{"site_id": site, **event} for site in SITES for event in events]
            http.post(f"{it.ingest}/events", json=every).raise_for_status()
            query = {"site_id": [*SITES], "metrics": ["events"], "date_range": "day"}

            def stored() -> bool:
                answer = http.post(f"{it.report}/api/v2/query", json=query).json()
                return bool(answer["results"][0]["metrics"] == [len(every)])

            wait_for(stored, "stored events")
        yield it


@pytest.fixture
def key(system: System) -> str:
    """A key that may read two of the three sites."""
    asked = {"name": "an assistant's", "scopes": ["stats:read"], "sites": ["shop", "blog"]}
    return str(httpx.post(f"{system.report}/admin/keys", headers=ADMIN, json=asked).raise_for_status().json()["key"])


def ask(system: System, key: str, mode: str, *calls: tuple[str, dict[str, Any]]) -> tuple[list[str], list[Any]]:
    """The names of the tools, and the result of each call."""

    async def conversation() -> tuple[list[str], list[Any]]:
        async with (
            create_mcp_http_client(headers={"Authorization": f"Bearer {key}"}) as http,
            Client(streamable_http_client(f"{system.report}/mcp", http_client=http), mode=mode) as client,
        ):
            tools = (await client.list_tools()).tools
            assert all(tool.annotations and tool.annotations.read_only_hint for tool in tools)
            return [tool.name for tool in tools], [await client.call_tool(*call) for call in calls]

    return anyio.run(conversation)


@pytest.mark.parametrize("mode", GENERATIONS)
def test_an_assistant_finds_its_sites_and_asks_about_them(system: System, key: str, mode: str):
    by_page = {
        "site_id": "shop",
        "metrics": ["visitors", "pageviews"],
        "date_range": "day",
        "dimensions": ["event:page"],
    }
    as_one = {"site_id": ["shop", "blog"], "metrics": ["visitors"], "date_range": "day"}
    steps = {"site_id": "shop", "date_range": "day", "steps": [{"page": "/"}, {"goal": "Bought"}]}
    names, (sites, goals, dimensions, pages, total, funnel) = ask(
        system, key, mode,
        ("list_sites", {}), ("list_goals", {"site_id": "shop"}), ("list_dimensions", {}), ("query", by_page),
        ("query", as_one), ("funnel", steps),
    )  # fmt: skip
    assert names == ["list_sites", "list_dimensions", "list_goals", "query", "funnel"]
    assert [site["site_id"] for site in sites.structured_content["sites"]] == ["blog", "shop"]
    assert goals.structured_content == {"goals": [{"name": "Bought", "event_type": "order"}]}
    assert "visit:source" in dimensions.structured_content["dimensions"]
    assert pages.structured_content["results"] == [
        {"dimensions": ["/"], "metrics": [2, 2]},
        {"dimensions": ["/thanks"], "metrics": [1, 0]},
    ]
    assert pages.structured_content["query"]["pagination"] == {"limit": 100, "offset": 0}
    assert json.loads(pages.content[0].text) == pages.structured_content
    assert total.structured_content["results"] == [{"dimensions": [], "metrics": [4]}]
    assert [step["count"] for step in funnel.structured_content["results"]] == [2, 1]


@pytest.mark.parametrize("mode", GENERATIONS)
def test_an_error_says_which_field_is_wrong(system: System, key: str, mode: str):
    query = {"site_id": "shop", "metrics": ["visitors"], "date_range": "day"}
    _, answers = ask(
        system, key, mode,
        ("query", query | {"metrics": ["visitor"]}), ("query", query | {"site_id": ["shop", "secret"]}),
        ("query", query | {"site_id": "shops"}), ("query", {"site_id": "shop"}), ("query", query | {"pagination": 1}),
        ("funnel", {"site_id": "shop", "date_range": "day", "steps": [{"page": "/"}, {"goal": "Sold"}]}),
        ("list_goals", {}), ("delete_site", {"site_id": "shop"}),
    )  # fmt: skip
    assert all(answer.is_error for answer in answers)
    expected = [
        "#/metrics/0: Invalid metric", "#/site_id: This API key has stats:read, but not for the site 'secret'",
        "#/site_id: This API key has stats:read, but not for the site 'shops'", "#: Required properties",
        "#/pagination: Type mismatch", "The goal `Sold` is not configured", "#/site_id: Type mismatch",
        "There is no tool 'delete_site'",
    ]  # fmt: skip
    for answer, message in zip(answers, expected, strict=True):
        assert message in answer.content[0].text


def post(system: System, key: str | None, **headers: str) -> httpx.Response:
    call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "list_sites", "arguments": {}}}
    given = {"Accept": "application/json, text/event-stream"} | ({"Authorization": f"Bearer {key}"} if key else {})
    return httpx.post(f"{system.report}/mcp", json=call, headers=given | headers)


def test_without_a_session_one_request_is_enough(system: System, key: str):
    answer = post(system, key)
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "application/json")
    assert [site["site_id"] for site in answer.json()["result"]["structuredContent"]["sites"]] == ["blog", "shop"]
    assert answer.headers["Cache-Control"] == "no-store"


def test_the_endpoint_needs_a_key_with_the_scope_and_refuses_pages(system: System, key: str):
    made = {"name": "a sender's", "scopes": ["events:write"], "sites": ["shop"]}
    sender = httpx.post(f"{system.report}/admin/keys", headers=ADMIN, json=made).json()["key"]
    assert [post(system, each).status_code for each in (None, "wrong", sender)] == [401, 401, 403]
    assert post(system, key, Origin=system.report).status_code == 403
    assert httpx.get(f"{system.report}/mcp", headers={"Authorization": f"Bearer {key}"}).status_code == 405
    assert post(system, key, Accept="text/html").status_code == 406


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b"[" * 60_000, b'{"jsonrpc":"2.0","id":1,"method":"x"}'])
def test_a_message_that_is_not_understood_is_an_error_of_the_protocol(system: System, key: str, body: bytes):
    headers = {"Authorization": f"Bearer {key}", "Accept": "application/json", "Content-Type": "application/json"}
    for version in ("2025-06-18", "2026-07-28", "1999-01-01"):
        answer = httpx.post(f"{system.report}/mcp", content=body, headers=headers | {"MCP-Protocol-Version": version})
        assert answer.json()["error"]["code"] < 0, (version, answer.text)
