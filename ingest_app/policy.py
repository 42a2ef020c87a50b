"""The collector's rules about events that are valid: one function per rule, in the order of `_POLICY`. Pure.

A `reject_...` function raises InvalidEvent: the caller's mistake, answered as an error. A `drop_...` function returns a
reason if the site does not want the event: the event is answered as accepted, and counted by that reason. Workers drop
bots and the like (analytics/enrichment/steps.py).
"""

from collections.abc import Callable
from datetime import datetime, timedelta
from ipaddress import ip_address

from msgspec import Struct

from analytics.events.event import Event
from analytics.events.schema import InvalidEvent
from analytics.schema_fields import EARLIEST, LATEST_SENT
from analytics.sites.site import Site
from analytics.urls import plain_origin
from analytics.visitors.client import Client
from ingest_app.hit import Hit

MOST_AHEAD = timedelta(minutes=1)  # of our clock: clocks differ


class Arrival(Struct, frozen=True, gc=False):
    """One event at the collector.

    `client`: the client of the visitor, which is not the sender if a server sent the hit.

    `is_trusted`: the hit has an API key that may write this site's events. `is_configured`: the site is set up. In open
    mode any site_id names a site, also one that is not set up.
    """

    event: Event
    hit: Hit
    client: Client
    site: Site
    is_configured: bool
    is_trusted: bool

    @property
    def is_anonymous(self) -> bool:
        """Whether the visitor gets an anonymous id, derived from the client."""
        return self.event.user_id is None and self.gets_visitor_id

    @property
    def gets_visitor_id(self) -> bool:
        """Whether the event gets the anonymous id of its client: if it is anonymous, or if the site assigns visits."""
        is_named = self.event.visitor_id is not None or (
            self.event.user_id is not None and not self.site.assigns_visits
        )
        return not is_named and bool(self.client.address or self.client.user_agent)


def reject_other_origin(arrival: Arrival) -> None:
    allowed, origin = arrival.site.allowed_origins, arrival.hit.origin
    if allowed and origin is not None and plain_origin(origin) not in allowed and not arrival.is_trusted:
        raise _rejection(
            arrival,
            "origin_not_allowed",
            "site_id",
            "The site does not accept events from this origin. Add it to allowed_origins of the site.",
        )


def reject_too_old(arrival: Arrival) -> None:
    if not arrival.is_configured or arrival.is_trusted:
        return
    days = arrival.site.backdate_days
    if arrival.event.received_at - arrival.event.occurred_at > timedelta(days=days):
        message = (
            f"The event is more than {days} days old. Send a newer event, or an API key with the scope events:write for"
            " this site, which accepts any age."
        )
        raise _rejection(arrival, "too_old", "timestamp", message)


def drop_opted_out(arrival: Arrival) -> str | None:
    return "refused_by_visitor" if arrival.hit.opted_out else None


def drop_refused_by_visitor(arrival: Arrival) -> str | None:
    return "refused_by_visitor" if arrival.hit.has_dnt_or_gpc and arrival.site.honours_dnt else None


def drop_excluded_address(arrival: Arrival) -> str | None:
    if not arrival.site.excluded_ips or not arrival.client.address:
        return None
    address = ip_address(arrival.client.address)
    is_excluded = any(address in network for network in arrival.site.excluded_ips)
    return "excluded_address" if is_excluded else None


_POLICY: tuple[Callable[[Arrival], str | None], ...] = (
    reject_other_origin,
    reject_too_old,
    drop_opted_out,
    drop_refused_by_visitor,
    drop_excluded_address,
)


def reason_to_drop(arrival: Arrival) -> str | None:
    """The reason to drop the event, by which it is counted. None if the event is taken. Raises InvalidEvent."""
    for rule in _POLICY:
        if reason := rule(arrival):
            return reason
    return None


def when_it_occurred(event: Event, timestamp: object, sent_at: datetime | None) -> tuple[datetime, bool]:
    """When the event occurred by our clock, and whether that was clamped. Raises InvalidEvent.

    `timestamp`: the event's own timestamp, if it has one. `sent_at`: when the hit was sent, by the clock of
    `timestamp`.
    """
    occurred_at = event.occurred_at
    if sent_at is not None and timestamp:
        try:
            occurred_at = event.received_at - (sent_at - event.occurred_at)
        except OverflowError:
            occurred_at = EARLIEST - timedelta(1) if sent_at > event.occurred_at else LATEST_SENT
    if occurred_at < EARLIEST:
        raise InvalidEvent(
            {"timestamp": ["Before the year 1970, after the correction by sent_at."]}, site_id=event.site_id
        )
    if occurred_at > event.received_at + MOST_AHEAD:
        return event.received_at, True
    return occurred_at, False


def _rejection(arrival: Arrival, code: str, field: str, message: str) -> InvalidEvent:
    return InvalidEvent({field: [message]}, code, arrival.event.site_id)
