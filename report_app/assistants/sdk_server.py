"""Answers one HTTP request of the Model Context Protocol with the official SDK.

The SDK is for ASGI, and our processes run WSGI. A request is answered by itself: the SDK's stateless mode needs no
session, and its JSON mode needs no stream. So each request runs the SDK's server on an event loop of its own, in the
thread of the request. Import this module only when a request arrives, because the SDK takes 30 MB of memory.
"""

import json
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import anyio
import mcp_types as sdk
import structlog
from mcp.server.lowlevel.server import Server
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager

from report_app.assistants.tools import Tool, ToolError
from web.errors import INTERNAL

log = structlog.get_logger()

_ABOUT = "Website statistics, to read only. Begin with list_sites. Days are those of the site's time zone."
_JSON = (("Accept", "application/json, text/event-stream"), ("Content-Type", "application/json"))
_READ_ONLY = sdk.ToolAnnotations(read_only_hint=True, open_world_hint=False)

logging.getLogger("mcp").setLevel(logging.WARNING)  # it logs two lines for each request


@dataclass
class HttpAnswer:
    status: int = 500
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""


def answer_mcp(tools: Sequence[Tool], headers: Iterable[tuple[str, str]], body: bytes, seconds: float) -> HttpAnswer:
    """Return the answer to a POST of JSON. `headers`: those of the protocol. Raises TimeoutError if the SDK does not
    answer in time.
    """
    given = [*headers, *_JSON, ("Content-Length", str(len(body)))]
    return anyio.run(_answer, _server(tools), given, body, seconds)


async def _answer(server: Server[Any], headers: list[tuple[str, str]], body: bytes, seconds: float) -> HttpAnswer:
    answer = HttpAnswer()
    parts: list[dict[str, Any]] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> dict[str, Any]:
        if not parts:
            await anyio.sleep_forever()  # the client stays connected
        return parts.pop()

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            answer.status = message["status"]
            answer.headers = [(name.decode(), value.decode()) for name, value in message["headers"]]
        else:
            answer.body += message.get("body", b"")

    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "scheme": "http",
        "path": "/mcp", "raw_path": b"/mcp", "query_string": b"", "root_path": "",
        "headers": [(name.lower().encode(), value.encode()) for name, value in headers],
    }  # fmt: skip
    manager = StreamableHTTPSessionManager(server, json_response=True, stateless=True)
    with anyio.fail_after(seconds):
        async with manager.run():
            await manager.handle_request(scope, receive, send)
    return answer


def _server(tools: Sequence[Tool]) -> Server[Any]:
    by_name = {tool.name: tool for tool in tools}

    async def list_tools(_context: object, _params: object) -> sdk.ListToolsResult:
        return sdk.ListToolsResult(tools=[_as_sdk(tool) for tool in tools])

    async def call_tool(_context: object, params: sdk.CallToolRequestParams) -> sdk.CallToolResult:
        tool = by_name.get(params.name)
        if tool is None:
            return _failed(f"There is no tool {params.name[:100]!r}. The tools are {', '.join(by_name)}.")
        try:
            found = tool.run(params.arguments or {})
        except ToolError as error:
            return _failed(str(error))
        except Exception as error:  # the SDK would show its message, and log nothing
            log.exception("request_failed", error=type(error).__name__)
            return _failed(INTERNAL)
        return sdk.CallToolResult(content=[sdk.TextContent(text=json.dumps(found))], structured_content=found)

    return Server("footfall", version="1.0", instructions=_ABOUT, on_list_tools=list_tools, on_call_tool=call_tool)


def _as_sdk(tool: Tool) -> sdk.Tool:
    return sdk.Tool(name=tool.name, description=tool.about, input_schema=tool.schema, annotations=_READ_ONLY)


def _failed(message: str) -> sdk.CallToolResult:
    return sdk.CallToolResult(content=[sdk.TextContent(text=message)], is_error=True)
