"""The drop: an event that is answered as accepted and not kept, by policy. Pure."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Drop:
    """`reason` is the name under which the drop is counted. `site_id` is the site of the dropped event."""

    reason: str
    site_id: str = ""
