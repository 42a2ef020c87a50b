"""The client that sent a hit. It exists only in memory. Pure.

The address and the user agent are never stored or logged. The journal holds them encrypted, with a key that lives for
two days (analytics/visitors/salts.py).
"""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Client:
    """A client. `address` is an IP address as text, "" if it is unknown. `place` is the location from a trusted CDN,
    with the names `country`, `region` and `city`. `languages` is the Accept-Language header. The repr shows none of
    these values.
    """

    address: str = field(default="", repr=False)
    user_agent: str = field(default="", repr=False)
    languages: str = field(default="", repr=False)
    place: tuple[tuple[str, str], ...] = field(default=(), repr=False)
