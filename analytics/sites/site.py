"""A site's settings. Pure: analytics/sites/schema.py reads them from JSON, and analytics/sites/store.py stores them."""

from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network
from typing import Literal
from zoneinfo import ZoneInfo

from analytics.events.page_patterns import PathRules
from analytics.json_schema import Count, IdText

MOST_EVENT_BYTES = 8192


@dataclass(frozen=True, slots=True)
class Goal:
    """A goal of a site: a pageview of a page that matches `page`, or an event of type `event_type`. Exactly one of the
    two is set. In `page`, `*` stands for any text within a part of the path, `**` for any text.

    `currency` is set for a goal with revenue. Its events' revenue is counted only in that currency.
    """

    name: str
    event_type: str | None = None
    page: str | None = None
    currency: str | None = None


@dataclass(frozen=True, slots=True)
class SavedFilter:
    """A filter of the site's reports that has a name. Queries use it as `["is", "segment", [id]]`. `filters` are those
    of POST /api/v2/query, as JSON text. They are read when they are used, because goals may change.
    """

    id: int
    name: str
    filters: str


@dataclass(frozen=True, slots=True)
class Site:
    """A site's settings. A site without settings has the defaults.

    `domains` holds its hosts in lower case, without `www.`. Events of other hostnames are dropped, unless `domains` is
    empty. `allowed_origins` holds the pages from which browsers may send events (`https://shop.example`); if it is
    empty, any page may. `write_key` is the public key, a UUID. `honours_dnt`: hits with DNT or GPC are dropped.
    `excluded_paths` may contain `*` and `**` as in a goal's page. `allowed_parameters` holds the parameters of a page's
    query that are kept. `backdate_days` is how old an event without an API key may be. `retention_days`: older events
    are purged, or never if it is None. `trailing_slash`: whether `/pricing/` stays a separate page or becomes
    `/pricing`. `path_case`: whether `/Pricing` stays a separate page or becomes `/pricing`. `path_rules`: pages that
    count as one, such as `/user/:id`. `max_event_bytes` is the largest size of an event
    (analytics/events/event_size.py). `assigns_visits`: whether the anonymous events of a visit are assigned to the user
    who signs in during it. `script_path` and `endpoint_path`: where ingestion also serves the tracker and accepts its
    events.
    """

    site_id: str
    zone: ZoneInfo = ZoneInfo("UTC")  # noqa: RUF009  immutable
    goals: tuple[Goal, ...] = ()
    shows_visitors: bool = False  # whether a visitor's own history may be queried
    domains: tuple[str, ...] = ()
    allowed_origins: tuple[str, ...] = ()
    write_key: IdText | None = None
    honours_dnt: bool = False
    excluded_ips: tuple[IPv4Network | IPv6Network, ...] = ()
    excluded_paths: tuple[str, ...] = ()
    allowed_parameters: tuple[str, ...] = ()
    backdate_days: Count = 30
    retention_days: Count | None = None
    trailing_slash: Literal["keep", "drop"] = "keep"
    path_case: Literal["keep", "lower"] = "keep"
    path_rules: tuple[str, ...] = ()
    max_event_bytes: Count = MOST_EVENT_BYTES
    saved_filters: tuple[SavedFilter, ...] = ()
    assigns_visits: bool = False
    script_path: str | None = None
    endpoint_path: str | None = None

    def rules_for_paths(self) -> PathRules:
        return PathRules(self.trailing_slash == "drop", self.path_case == "lower", self.path_rules)
