"""Who sent a hit: what is known of the one at the other end, in memory only. Pure.

Neither the address nor the user agent is ever stored or logged; the journal has them encrypted, with a key that lives
two days (analytics/visitors/salts.py).
"""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Client:
    """`address`: an IP address as text, "" where none is known. `place`: what a trusted CDN says of it, by the names
    `country`, `region` and `city`. `languages`: its Accept-Language. Its repr shows nothing of it.
    """

    address: str = field(default="", repr=False)
    user_agent: str = field(default="", repr=False)
    languages: str = field(default="", repr=False)
    place: tuple[tuple[str, str], ...] = field(default=(), repr=False)
