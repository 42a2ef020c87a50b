"""Detects which kind of server listens at an address, for error messages about a wrong address."""

import socket
import ssl
from contextlib import suppress

_PATIENCE = 0.5  # seconds for each step
# Redis reads this as its command GET with too many arguments. MongoDB and web servers answer with HTTP.
_QUESTION = b"GET / HTTP/1.0\r\n\r\n"


def kind_of_server(host: str, port: int) -> str:
    """Return "Redis", "MongoDB", "a web server", or "" if the kind is unknown."""
    answer = b""
    with suppress(OSError), socket.create_connection((host, port), _PATIENCE) as connection:
        connection.settimeout(_PATIENCE)
        connection.sendall(_QUESTION)
        answer = connection.recv(1000)
        if answer.startswith(b"HTTP/"):
            answer += connection.recv(1000)
    if answer.startswith((b"-ERR", b"-NOAUTH", b"-DENIED")):
        return "Redis"
    if not answer.startswith(b"HTTP/"):
        return ""
    return "MongoDB" if b"MongoDB" in answer else "a web server"


def has_tls(host: str, port: int) -> bool:
    """Return whether the server answers the begin of a TLS connection."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # nothing is sent to it
    with suppress(OSError), socket.create_connection((host, port), _PATIENCE) as connection:
        context.wrap_socket(connection, server_hostname=host).close()
        return True
    return False
