"""Matomo's visit log: the answer of its API Live.getLastVisitsDetails as JSON, one file for each page of the answer.
Pure.

Source: developer.matomo.org/api-reference/reporting-api. An action has no id of its own, so its event is named by its
visit and its place in the visit.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from analytics.events.coercion import id_of, money, name_of, page, props, text, without_nothing
from analytics.imports.format import ImportFormat, SkippedRow, SourceEvent, described_place, rows_of
from analytics.imports.source import Head

_DEVICES = {
    "Desktop": "Desktop", "Smartphone": "Mobile", "Phablet": "Mobile", "Feature phone": "Mobile", "Tablet": "Tablet",
    "Tv": "TV", "TV": "TV", "Console": "Console",
}  # fmt: skip
_SYSTEMS = {"Mac": "macOS", "GNU/Linux": "Linux"}
_CLICKS = {"outlink": "Outbound Link: Click", "download": "File Download"}
_CAMPAIGN = {"utm_source": "campaignSource", "utm_medium": "campaignMedium", "utm_content": "campaignContent"}


def recognises(head: Head) -> bool:
    return {"idVisit", "visitorId", "actionDetails"} <= head.item.keys()


def translate(visit: dict[str, Any]) -> Iterator[SourceEvent | SkippedRow]:
    described, origin = _described(visit), _origin(visit)
    same = described | {"user_id": id_of(visit.get("userId"), 256)}
    for place, action in enumerate(visit["actionDetails"]):
        found = _event(action, visit)
        if isinstance(found, SkippedRow):
            yield found
            continue
        moment = datetime.fromtimestamp(int(action.get("timestamp") or visit["serverTimestamp"]), UTC)
        named = {"event_id": f"matomo:{visit['idSite']}-{visit['idVisit']}-{place}", "timestamp": moment}
        event = without_nothing(same | origin | found | named)
        yield SourceEvent(event, visitor=str(visit["visitorId"]), owner=str(visit["idSite"]))
        origin = {}  # it is that of the visit, so of its first event


def _event(action: dict[str, Any], visit: dict[str, Any]) -> dict[str, Any] | SkippedRow:
    where = page(action.get("url"))
    match action.get("type"):
        case "action":
            return where | {"event_type": "pageview", "props": props({"title": action.get("pageTitle")})}
        case "event":
            said = {name: action.get(f"event{name.title()}") for name in ("category", "name", "value")}
            return where | {"event_type": text(action.get("eventAction"), 128) or "event", "props": props(said)}
        case "outlink" | "download" as kind:
            return {"event_type": _CLICKS[kind], "props": props({"url": action.get("url")})}
        case "search":
            keyword = action.get("siteSearchKeyword")
            return where | {"event_type": "Search", "props": props({"keyword": keyword})}
        case "ecommerceOrder":
            revenue = money(action.get("revenue"), visit.get("siteCurrency"))
            said = {"order_id": name_of(action.get("orderId")), "items": action.get("items")}
            return {"event_type": "Order", "revenue": revenue, "props": props(said)}
    return SkippedRow("goal" if action.get("type") == "goal" else "other_action")


def _described(visit: dict[str, Any]) -> dict[str, str | None]:
    system = text(visit.get("operatingSystemName"), 128)
    return {
        "browser": text(visit.get("browserName"), 128),
        "browser_version": text(name_of(visit.get("browserVersion")), 128),
        "os": _SYSTEMS.get(system or "", system),
        "os_version": text(name_of(visit.get("operatingSystemVersion")), 128),
        "device": _DEVICES.get(str(visit.get("deviceType"))),
        "screen": text(visit.get("resolution"), 11),
        "language": text(visit.get("languageCode"), 35),
        **described_place(visit.get("countryCode"), visit.get("regionCode"), visit.get("city")),
    }


def _origin(visit: dict[str, Any]) -> dict[str, str | None]:
    """Where the visit came from. Matomo often withholds the URL of a search engine, but not its name."""
    name = text(visit.get("referrerName"), 255)
    campaign = {ours: text(visit.get(theirs), 255) for ours, theirs in _CAMPAIGN.items()}
    match visit.get("referrerType"):
        case "campaign":
            term = text(visit.get("referrerKeyword"), 255)
            return campaign | {"utm_campaign": name, "utm_term": term}
        case "search" | "social" | "website":
            referrer = text(visit.get("referrerUrl"), 2048)
            return {"referrer": referrer} if referrer else {"source": name}
    return {}


MATOMO_LOG = ImportFormat(
    name="matomo",
    title="Matomo's visit log (Live.getLastVisitsDetails)",
    mapping={
        "action": "pageview",
        "event": "an event of the type eventAction",
        "outlink, download": "Outbound Link: Click, File Download",
        "search, ecommerceOrder": "Search, Order with its revenue",
        "visitorId": "visitor_id, hashed",
        "userId": "user_id",
        "referrer, campaign": "referrer or source, utm_...",
        "browser, system, device, place": "the same, by our names",
        "goal": "not imported: set up goals in Footfall",
    },
    recognises=recognises,
    read=rows_of,
    translate=translate,
)
