"""gunicorn's threaded worker, but for what it says when a request cannot even be parsed: JSON as all our errors, where
gunicorn answers in HTML, and a log line without the visitor's address, which gunicorn writes into it.
"""

import socket
from typing import Any

import structlog
from gunicorn.glogging import Logger
from gunicorn.http.errors import (
    LimitRequestHeaders,
    LimitRequestLine,
    ParseException,
    UnsupportedTransferCoding,
)
from gunicorn.workers.gthread import ThreadWorker

from web.errors import NOT_HTTP, code_for, error_body

log = structlog.get_logger()

STATUS = {
    LimitRequestLine: "414 URI Too Long",
    LimitRequestHeaders: "431 Request Header Fields Too Large",
    UnsupportedTransferCoding: "501 Not Implemented",
}


class QuietLogger(Logger):  # type: ignore[misc]
    """No access log: it would write visitors' addresses. gunicorn prepares each of its lines even where none is kept,
    which took 6 % of the door's CPU.
    """

    def access(self, resp: Any, req: Any, environ: Any, request_time: Any) -> None:
        return


class Worker(ThreadWorker):  # type: ignore[misc]
    def handle_error(self, req: Any, client: socket.socket, addr: Any, exc: Exception) -> None:
        if isinstance(exc, ParseException):
            status = STATUS.get(type(exc), "400 Bad Request")
            message = NOT_HTTP
            log.warning("request_not_http", error=type(exc).__name__)
        else:
            status = "500 Internal Server Error"
            message = "Our fault, not yours; it has been logged."
            log.error("request_failed", error=type(exc).__name__, exc_info=exc)
        body = error_body(code_for(int(status[:3])), message).encode()
        head = (
            f"HTTP/1.1 {status}\r\nConnection: close\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        try:
            client.sendall(head.encode() + body)
        except OSError:
            log.debug("client_gone")
