"""IP addresses as clients, proxies and libraries write them. Pure.

All code that reads an address from outside calls `plain_address`. One visitor therefore has one address, and a site's
`excluded_ips` match every spelling of it.
"""

import re
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

_LONGEST = 64  # characters of an address with its brackets and port
LONGEST_WRITTEN = 256  # characters that are read; a zone may have any length
ZONE = re.compile(r"%[^\]]*")
_PORT = re.compile(r":\d{1,5}\Z")
MAPPED = ip_network("::ffff:0:0/96")
_BYTE = "(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_PLAIN_IPV4 = re.compile(rf"{_BYTE}(?:\.{_BYTE}){{3}}")


def plain_address(text: str) -> str:
    """Return the shortest form of an address, without brackets, port and zone, or "" if it is not an address. An IPv4
    address that is mapped into IPv6 becomes that IPv4 address.
    """
    return text if _PLAIN_IPV4.fullmatch(text) else _plain_address(text[:LONGEST_WRITTEN])


@lru_cache(4096)  # the same few addresses send most hits, and reading one takes 10 µs
def _plain_address(text: str) -> str:
    written = ZONE.sub("", text, count=1).strip().strip('"')
    if len(written) > _LONGEST:
        return ""
    if written.startswith("["):
        written, bracket, rest = written[1:].partition("]")
        if not bracket or (rest and not _PORT.fullmatch(rest)):
            return ""
    elif "." in written:  # IPv4, possibly mapped: only here can a port be distinguished from the address
        written = _PORT.sub("", written)
    try:
        address = ip_address(written)
    except ValueError:
        return ""
    return str(getattr(address, "ipv4_mapped", None) or address)


def subscriber_network(address: str) -> str:
    """Return the network of one subscriber. For IPv6 it is the first 64 bits."""
    plain = plain_address(address)
    return str(ip_network(f"{plain}/64", strict=False)) if ":" in plain else plain


def plain_network(text: str) -> IPv4Network | IPv6Network:
    """Return an address, or a network in CIDR notation, as a network. Raises ValueError."""
    address, slash, length = text.strip().partition("/")
    if not slash:
        return ip_network(plain_address(address))
    network = ip_network(f"{address}/{length}")
    if isinstance(network.network_address, IPv6Address) and network.subnet_of(MAPPED):  # type: ignore[arg-type]
        return ip_network(f"{network.network_address.ipv4_mapped}/{network.prefixlen - 96}")
    return network
