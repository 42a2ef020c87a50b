"""What is set for a site. Pure: analytics/sites/schema.py makes it from JSON, sites.py keeps it."""

from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network
from typing import Literal
from zoneinfo import ZoneInfo

MOST_EVENT_BYTES = 8192


@dataclass(frozen=True, slots=True)
class Goal:
    """What a site wants to happen: a pageview of a page like `page`, or an event called `event_type`; exactly one of
    the two is given. In `page`, `*` stands for anything within a path's part, `**` for anything.

    `currency`: of a goal that brings money; its events' revenue is counted in that currency only.
    """

    name: str
    event_type: str | None = None
    page: str | None = None
    currency: str | None = None


@dataclass(frozen=True, slots=True)
class Site:
    """One that nobody set anything for has this.

    `domains`: its hosts, lower case, without `www.`; events of another hostname are dropped, but where none is set.
    `allowed_origins`: from which pages browsers may send (`https://shop.example`); none for any. `write_key`: the
    public one, a UUID. `honours_dnt`: hits that say DNT or GPC are dropped. `excluded_paths`: with `*` and `**` as in a
    goal's page. `allowed_parameters`: of a page's query, those that are kept. `backdate_days`: how old an event may be
    that comes without an API key. `retention_days`: events that are older are purged; None for never. `trailing_slash`:
    whether `/pricing/` stays a page of its own, or becomes `/pricing`. `max_event_bytes`: how large an event may be
    (analytics/events/event_size.py).
    """

    site_id: str
    zone: ZoneInfo = ZoneInfo("UTC")  # noqa: RUF009  immutable
    goals: tuple[Goal, ...] = ()
    shows_visitors: bool = False  # whether a visitor's own history may be asked for
    domains: tuple[str, ...] = ()
    allowed_origins: tuple[str, ...] = ()
    write_key: str | None = None
    honours_dnt: bool = False
    excluded_ips: tuple[IPv4Network | IPv6Network, ...] = ()
    excluded_paths: tuple[str, ...] = ()
    allowed_parameters: tuple[str, ...] = ()
    backdate_days: int = 30
    retention_days: int | None = None
    trailing_slash: Literal["keep", "drop"] = "keep"
    max_event_bytes: int = MOST_EVENT_BYTES
