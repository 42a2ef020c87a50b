"""Real servers that receive notifications: SMTP and HTTP, and servers that misbehave."""

import asyncio
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import psutil
import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult

from footfall.embedded_servers import pick_port
from tests.support.certificates import Authority

STAGES = ("EHLO", "MAIL", "RCPT", "DATA")
GOOD = "p@ss/word"


@dataclass
class Mailbox:
    """What the SMTP server accepted. At the stage `stops_at`, the server sets `reached` and waits for `resumed`."""

    messages: list[EmailMessage] = field(default_factory=list)
    answer: str = "250 OK"  # to RCPT
    stops_at: str = ""
    reached: threading.Event = field(default_factory=threading.Event)
    resumed: threading.Event = field(default_factory=threading.Event)
    url: str = ""
    port: int = 0
    signed_in: list[str] = field(default_factory=list)

    def sign_in(self, server: Any, session: Any, envelope: Any, mechanism: str, data: Any) -> AuthResult:
        self.signed_in.append(data.login.decode())
        return AuthResult(success=data.password.decode() == GOOD, handled=False)

    async def handle_EHLO(self, server: Any, session: Any, envelope: Any, hostname: str, responses: Any) -> Any:  # noqa: N802  aiosmtpd's name
        session.host_name = hostname
        await self._stop("EHLO")
        return responses

    async def handle_MAIL(self, server: Any, session: Any, envelope: Any, address: str, options: Any) -> str:  # noqa: N802  aiosmtpd's name
        envelope.mail_from = address
        await self._stop("MAIL")
        return "250 OK"

    async def handle_RCPT(self, server: Any, session: Any, envelope: Any, address: str, options: Any) -> str:  # noqa: N802  aiosmtpd's name
        await self._stop("RCPT")
        if self.answer.startswith("250"):
            envelope.rcpt_tos.append(address)
        return self.answer

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802  aiosmtpd's name
        """The message is accepted, whether the client reads the answer or not."""
        self.messages.append(message_from_bytes(envelope.content, policy=default))  # type: ignore[arg-type]
        await self._stop("DATA")
        return "250 OK"

    async def _stop(self, stage: str) -> None:
        if stage == self.stops_at:
            self.reached.set()
            await asyncio.to_thread(self.resumed.wait, 30)


@contextmanager
def smtp_server(host: str = "127.0.0.1", **options: Any) -> Iterator[Mailbox]:
    """`options`: see aiosmtpd's Controller and SMTP. A login adds its user to `signed_in` if the password is GOOD."""
    mailbox = Mailbox()
    mailbox.port = pick_port(0)
    controller = Controller(mailbox, hostname=host, port=mailbox.port, authenticator=mailbox.sign_in, **options)
    controller.start()
    try:
        mailbox.url = f"smtp://{host}:{mailbox.port}"
        yield mailbox
    finally:
        mailbox.resumed.set()
        controller.stop()


@dataclass(frozen=True)
class Posted:
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Hooks:
    """What the HTTP server received. `status`, `headers` and `body` are of its answers."""

    posted: list[Posted] = field(default_factory=list)
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    port: int = 0


@contextmanager
def http_server(tls: ssl.SSLContext | None = None) -> Iterator[Hooks]:
    hooks = Hooks()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            hooks.posted.append(Posted(self.path, {k.lower(): v for k, v in self.headers.items()}, body))
            self.send_response(hooks.status)
            for name, value in hooks.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(hooks.body)))
            self.end_headers()
            self.wfile.write(hooks.body)

        def log_message(self, *_: object) -> None:
            """Keep the output of tests short."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        hooks.port = server.server_address[1]
        if tls:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield hooks
        finally:
            server.shutdown()
            thread.join()


def certificate(folder: Path, address: str) -> tuple[Path, ssl.SSLContext]:
    """The certificate of an authority, and the context of a server at localhost and this address that it trusts."""
    authority = Authority(folder)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(authority.sign("server", [address]))
    return authority.file, context


def own_address() -> str:
    """An IPv4 address of this machine that is not loopback. Skips the test if there is none."""
    found = [a.address for each in psutil.net_if_addrs().values() for a in each if a.family is socket.AF_INET]
    outside = [address for address in found if not ip_address(address).is_loopback]
    return outside[0] if outside else pytest.skip("this machine has no network interface")


def drip(connection: socket.socket) -> None:
    """Sends a line that never ends, one byte at a time: each read gets something within a time limit."""
    pause = threading.Event()
    with suppress(OSError):
        while not pause.wait(0.05):
            connection.sendall(b"2")


def say_nothing(connection: socket.socket) -> None:
    with suppress(OSError):
        while connection.recv(1000):
            pass


@contextmanager
def raw_server(behave: Callable[[socket.socket], None]) -> Iterator[int]:
    """A server that behaves so to each client, and whose port this is."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threads = []

        def accept() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    threads.append(threading.Thread(target=_serve, args=(behave, connection), daemon=True))
                    threads[-1].start()

        accepting = threading.Thread(target=accept, daemon=True)
        accepting.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        accepting.join()
    for thread in threads:
        thread.join(10)


def _serve(behave: Callable[[socket.socket], None], connection: socket.socket) -> None:
    with connection:
        behave(connection)
