"""The client that sent a hit. It exists only in memory. Pure.

The address and the user agent are never stored or logged. The journal holds them encrypted, with a key that lives for
two days (analytics/visitors/salts.py).
"""

from msgspec import Struct


class Client(Struct, frozen=True, gc=False):
    """A client. `address` is an IP address as text, "" if it is unknown. `place` is the location from a trusted CDN,
    with the names `country`, `region` and `city`. `languages` is the Accept-Language header. The repr shows none of
    these values.
    """

    address: str = ""
    user_agent: str = ""
    languages: str = ""
    place: tuple[tuple[str, str], ...] = ()

    def __repr__(self) -> str:
        return "Client()"
