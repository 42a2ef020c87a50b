"""What becomes of an event that was only sent to be validated: `?validate=1` on POST /event and /events.

A worker drops some events only after they were accepted (bots, spam, foreign hosts). The same steps run here, but only
for a sender whose API key may write the site's events: a visitor does not learn what a site drops.
"""

import json
from typing import Any

from analytics.enrichment.steps import Lookups, draft_of, enrich, put_page
from analytics.events.drop import Drop
from analytics.events.event import Event
from analytics.events.schema import dump_journal_event
from ingest_app.policy import Arrival

OF_THE_JOURNAL = ("id", "exported_id", "url", "client")


def resolve(arrival: Arrival, lookups: Lookups) -> Event | Drop:
    """The event as it would be stored, or why a worker would drop it; without a key, the event with its page only."""
    if arrival.is_trusted:
        return enrich(arrival.event, arrival.client, arrival.site, lookups)
    draft = draft_of(arrival.event, arrival.client, arrival.site, lookups)
    put_page(draft)
    return draft.as_event()


def as_json(event: Event, arrival: Arrival) -> dict[str, Any]:
    """By the names that the event was sent with, but for when it occurred, and who is counted as its visitor."""
    fields: dict[str, Any] = json.loads(dump_journal_event(event))
    said = {name: value for name, value in fields.items() if name not in OF_THE_JOURNAL}
    return said | {"occurred_at": said.pop("timestamp"), "visitor": _visitor(event, arrival)}


def _visitor(event: Event, arrival: Arrival) -> str:
    if event.user_id is not None:
        return "user_id"
    return "anonymous" if event.visitor_id or arrival.is_anonymous else "none"
