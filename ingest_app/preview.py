"""The expected outcome of an event that was only sent to be validated: `?validate=1` on POST /event and /events.

A worker drops some events after they were accepted (bots, spam, foreign hosts). The same steps run here, but only if
the sender's API key may write the site's events. So a visitor does not learn what a site drops.
"""

import json
from typing import Any

from analytics.enrichment.steps import Lookups, draft_of, enrich, put_page
from analytics.events.drop import Drop
from analytics.events.event import Event
from analytics.events.schema import dump_event
from ingest_app.policy import Arrival

OF_THE_JOURNAL = ("id", "exported_id", "url", "client")


def resolve(arrival: Arrival, lookups: Lookups) -> Event | Drop:
    """The event as it would be stored, or the reason why a worker would drop it.

    Without an API key that may write the site's events, only the event's page is resolved.
    """
    if arrival.is_trusted:
        return enrich(arrival.event, arrival.client, arrival.site, lookups)
    draft = draft_of(arrival.event, arrival.client, arrival.site, lookups)
    put_page(draft)
    return draft.as_event()


def as_json(event: Event, arrival: Arrival) -> dict[str, Any]:
    """The event under the names that it was sent with, plus `occurred_at` and the kind of `visitor`."""
    fields: dict[str, Any] = json.loads(dump_event(event))
    said = {name: value for name, value in fields.items() if name not in OF_THE_JOURNAL}
    return said | {"occurred_at": said.pop("timestamp"), "visitor": _visitor(event, arrival)}


def _visitor(event: Event, arrival: Arrival) -> str:
    if event.user_id is not None:
        return "user_id"
    return "anonymous" if event.visitor_id or arrival.is_anonymous else "none"
