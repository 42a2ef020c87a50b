"""A connection to a server that a rule or a setting names: to a checked address, within a time limit.

The name is resolved once, every address is checked, and the connection goes to a checked address. So a name that
resolves to another address later (DNS rebinding) has no effect. After the time limit, the connection is shut down, no
matter how slowly the server answers.
"""

import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from threading import Timer

SEND_LIMIT = 10.0  # seconds for one notification, from the connection to the server's last answer
_CONNECT_LIMIT = 3.0  # seconds for each address
_MOST_ADDRESSES = 2  # that are tried
_UNICAST = IPv6Network("2000::/3")

Resolve = Callable[[str, int], list[str]]


class NotDelivered(Exception):
    """The server did not accept the notification. The message says why, without secrets. `is_final`: another attempt
    would fail too. `may_have_arrived`: the server may have accepted it, but did not say so.
    """

    def __init__(self, reason: str, *, is_final: bool = False, may_have_arrived: bool = False) -> None:
        super().__init__(reason)
        self.is_final = is_final
        self.may_have_arrived = may_have_arrived


def is_public(address: str) -> bool:
    """Whether the address is a host's on the public internet. IPv6 addresses that contain an IPv4 address are not."""
    ip = ip_address(address)
    if isinstance(ip, IPv4Address):
        return ip.is_global and not ip.is_multicast
    return ip in _UNICAST and ip.is_global and not _contains_ipv4(ip)


def _contains_ipv4(ip: IPv6Address) -> bool:
    return ip.sixtofour is not None or ip.teredo is not None


def resolve(host: str, port: int) -> list[str]:
    """Return the addresses of a host, in the order in which to try them. Raises NotDelivered."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise NotDelivered(f"{host} was not found: {error}") from None
    return list(dict.fromkeys(str(address[0]).partition("%")[0] for *_, address in found))


def any_address(_: str) -> bool:
    """Accept every address, for a server that the operator chose."""
    return True


@contextmanager
def connected(
    host: str, port: int, seconds: float, is_allowed: Callable[[str], bool], resolve: Resolve = resolve
) -> Iterator[socket.socket]:
    """Yield a connected socket that is shut down after `seconds`. Raises NotDelivered if it cannot be connected, or if
    one of the host's addresses is not allowed.
    """
    addresses = resolve(host, port)
    if refused := [address for address in addresses if not is_allowed(address)]:
        raise NotDelivered(
            f"{host} has the address {refused[0]}, which is not on the public internet. Footfall does not send to it.",
            is_final=True,
        )
    with _first_of(addresses, host, port) as connection, _shut_down_after(seconds, connection):
        connection.settimeout(seconds)
        yield connection


def over_tls(connection: socket.socket, host: str) -> ssl.SSLSocket:
    """Wrap the connection in TLS, and check the certificate of the host. Raises OSError."""
    return ssl.create_default_context().wrap_socket(connection, server_hostname=host)


def _first_of(addresses: list[str], host: str, port: int) -> socket.socket:
    """Connect to the first address that answers."""
    reason = "it has no address"
    for address in addresses[:_MOST_ADDRESSES]:
        try:
            return socket.create_connection((address, port), _CONNECT_LIMIT)
        except OSError as error:
            reason = str(error)
    raise NotDelivered(f"{host} is not reachable at port {port}: {reason}")


@contextmanager
def _shut_down_after(seconds: float, connection: socket.socket) -> Iterator[None]:
    """A timeout of a socket limits each read, but a server may send one byte at a time. The copy of the descriptor
    remains valid when TLS takes over the socket.
    """
    copy = connection.dup()
    timer = Timer(seconds, _shut_down, [copy])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()
        copy.close()


def _shut_down(connection: socket.socket) -> None:
    with suppress(OSError):  # the server has closed it
        connection.shutdown(socket.SHUT_RDWR)
