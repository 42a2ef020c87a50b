"""The word for "our policy": an event that is answered as accepted and not kept. Pure."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Drop:
    """`reason`: by which it is counted; `site_id`: whose event it would have been."""

    reason: str
    site_id: str = ""
