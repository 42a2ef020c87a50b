"""`make bench-enrichment`: the cost of each step of enrichment, in microseconds per event.

The events are like those of browsers. Each comes from a visitor with one of 2,000 user agents, a few of which are
frequent (of 10,000 real ones 950 were different). Referrers have a few hundred hosts, and addresses are looked up in a
file of 6,400 networks. `cold` is the first EVENTS (20,000) events with empty caches, `warm` is as many more. For
comparison it prints the cost of reading such an event from the journal. `make bench` measures how many of them a worker
stores per second.
"""

import json
import os
import random
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import netaddr
from mmdb_writer import MMDBWriter

from analytics.enrichment.geolocation import Places
from analytics.enrichment.steps import STEPS, Lookups, draft_of, enrich
from analytics.enrichment.user_agents import agent_of
from analytics.events.event import Event, new_id, packed
from analytics.events.schema import dump_event, load_journal_event
from analytics.sites.site import Site
from analytics.visitors.client import Client
from bench.hits import NOW, browser, hit, user_agents, weights
from bench.ingestion import machine, print_table
from ingest_app.field_warnings import unknown_fields

EVENTS = int(os.environ.get("EVENTS", "20000"))
SEED = 1
SITE = Site("shop", domains=("shop.example",), excluded_paths=("/admin/**",), allowed_parameters=("page",))


def main() -> None:
    chance = random.Random(SEED)
    agents = user_agents(chance)
    print(f"# make bench-enrichment, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {machine()}, {EVENTS:,} events\n")
    with tempfile.TemporaryDirectory(prefix="footfall-bench-") as folder:
        lookups = Lookups(Places(str(place_file(Path(folder), chance))))
        rounds = {
            name: [hit(chance, agent) for agent in chance.choices(agents, weights(agents), k=EVENTS)]
            for name in ("cold", "warm")
        }
        enrich(*rounds["cold"][0], SITE, lookups)  # loads the data sets
        agent_of.cache_clear()
        found = {name: measure(hits, lookups) for name, hits in rounds.items()}
    print("| step, µs of CPU an event | cold | warm |\n|---|---|---|")
    for step in found["cold"]:
        print(f"| {step} | {found['cold'][step]:.1f} | {found['warm'][step]:.1f} |")
    agents_seen = agent_of.cache_info()
    print_table(
        "beside it",
        {
            "load_journal_event, µs": f"{reading([event for event, _ in rounds['warm']]):.1f}",
            "unknown_fields, of an event that has none, µs": f"{clean(rounds['warm']):.1f}",
            "a user agent that was not seen before, µs": f"{unseen(chance):.0f}",
            "user agents seen": f"{agents_seen.currsize:,} of {2 * EVENTS:,} hits",
        },
    )


def measure(hits: list[tuple[Event, Client]], lookups: Lookups) -> dict[str, float]:
    """By step, over all events at a time. µs of CPU per event, so that other processes do not distort the result."""
    drafts = [draft_of(event, client, SITE, lookups) for event, client in hits]
    rows: dict[str, float] = {}
    for step in STEPS:
        start = time.process_time()
        reasons = [step(draft) for draft in drafts]
        rows[step.__name__] = (time.process_time() - start) / len(drafts) * 1e6
        drafts = [draft for draft, reason in zip(drafts, reasons, strict=True) if reason is None]
    rows["enrich, all of it, caches warm"] = per_item(lambda hit: enrich(*hit, SITE, lookups), hits)
    rows["dropped, %"] = 100 - len(drafts) / len(hits) * 100
    return rows


def reading(events: list[Event]) -> float:
    raw = [packed(event) for event in events]
    return per_item(lambda each: load_journal_event(each, new_id, lambda: NOW), raw)


def clean(hits: list[tuple[Event, Client]]) -> float:
    return per_item(lambda body: unknown_fields([body]), [json.loads(dump_event(event)) for event, _ in hits])


def unseen(chance: random.Random) -> float:
    fresh = [browser(chance) + f" Unseen/{n}.0" for n in range(500)]
    return per_item(agent_of, fresh)


def per_item(what: Callable[[Any], object], items: list[Any]) -> float:
    start = time.process_time()
    for each in items:
        what(each)
    return (time.process_time() - start) / len(items) * 1e6


def place_file(folder: Path, chance: random.Random) -> Path:
    writer = MMDBWriter(6, "GeoLite2-City", ipv4_compatible=True)
    for first in range(1, 200):
        for second in range(0, 256, 8):
            city = {"names": {"en": f"City {chance.randrange(3000)}", "de": "Stadt", "fr": "Ville"}}
            record = {"country": {"iso_code": "US"}, "subdivisions": [{"iso_code": "CA"}], "city": city}
            writer.insert_network(netaddr.IPSet([f"{first}.{second}.0.0/13"]), record)
    path = folder / "city.mmdb"
    writer.to_db_file(str(path))
    return path


if __name__ == "__main__":
    main()
