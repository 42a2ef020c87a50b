"""`python -m footfall demo`: fills three demo sites with traffic through the ingestion app, and opens their dashboard.

If the system is not running in this folder, the command starts it, and stops it when it is interrupted. Exits with 0 if
the demo is ready, and with 1 if the system does not start, or a store or the ingestion app does not answer.
"""

import http.client
import logging
import os
import signal
import subprocess
import sys
import time
import webbrowser
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click
import msgspec

from analytics.access.api_key import WRITE_SCOPE
from analytics.batched import batched
from analytics.dashboards.annotations import Annotation
from analytics.dashboards.funnels import SavedFunnel
from analytics.events.account import ACCEPTED, DEAD, DROPPED_LATER, DUPLICATE, STORED
from analytics.queries.periods import ONE_DAY
from analytics.segments.builder import rebuild
from analytics.segments.verification import months_of
from analytics.sites.schema import load_changes
from analytics.unavailable import Unavailable
from config.services import Services
from config.settings import Settings, load_settings
from footfall.command_group import fail, open_services
from footfall.demo_traffic import DEMO_SITES, DemoSite, day_events
from footfall.supervisor import answers, urls_of

_START_LIMIT = 120.0  # seconds until the apps of a new system answer
_KNOWN_LIMIT = 30.0  # seconds until the ingestion app knows the sites and the key
_STALL_LIMIT = 60.0  # seconds without progress
_EVENTS_A_REQUEST = 1000
_KEY_LIFE = timedelta(hours=1)
_LAUNCH = "Launch on Hacker News"  # the annotation of its day


@click.command("demo")
@click.option("--days", type=click.IntRange(1, 365), default=90, show_default=True, help="The length of the traffic.")
@click.option("--remove", is_flag=True, help="Remove the demo sites and their events instead.")
@click.pass_obj
def demo(settings: Settings, days: int, remove: bool) -> None:
    """Fill three demo sites with traffic, and show their dashboard. Start the system if it is not running."""
    if remove:
        with open_services(settings, "mongodb") as services:
            _remove(services)
        return
    urls = urls_of(settings)
    if all(answers(f"{urls[app]}/readyz") for app in ("ingest", "report")):
        _fill(settings, days)
        return
    with _system(settings, urls) as process:
        _fill(load_settings(), days)  # the addresses of the stores that were started
        click.echo(f"Ctrl-C stops the system. Its data stays in {settings.data_dir}.")
        process.wait()


@contextmanager
def _system(settings: Settings, urls: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """The system, until the block ends or is interrupted."""
    for number in (signal.SIGINT, signal.SIGTERM):  # a shell ignores SIGINT for what it starts in the background
        signal.signal(number, signal.default_int_handler)
    log = Path(settings.data_dir) / "demo.log"
    log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    click.echo(f"Starting the system. Its output is in {log}.")
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "footfall.supervisor"], stdout=output, stderr=subprocess.STDOUT
        )
    try:
        end = time.monotonic() + _START_LIMIT
        while not all(answers(f"{urls[app]}/readyz") for app in ("ingest", "report")):
            if process.poll() is not None or time.monotonic() > end:
                fail(f"the system did not start. Read {log}.", 1)
            time.sleep(0.2)
        yield process
    except KeyboardInterrupt:
        click.echo("Stopping the system.")
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


def _fill(settings: Settings, days: int) -> None:
    start = time.monotonic()
    urls = urls_of(settings)
    with open_services(settings, "mongodb") as services:
        launches = {site.site_id: _set_up(services, site, days) for site in DEMO_SITES}
        names = [site.site_id for site in DEMO_SITES]
        key, secret = services.api_keys.create("demo", [WRITE_SCOPE], names, services.now() + _KEY_LIFE)
        try:
            with closing(
                http.client.HTTPConnection(urlsplit(urls["ingest"]).netloc, timeout=_STALL_LIMIT)
            ) as connection:
                sent = _send_all(Sender(connection, secret), days, services.now(), launches)
        finally:
            services.api_keys.revoke(key.id)
        _wait_until_stored(services)
        _build(services)
    url = f"{urls['report']}/site/{names[0]}"
    click.echo(f"{sent:,} events of {', '.join(names)} in {time.monotonic() - start:.0f} s.")
    click.echo(f"The dashboard: {url}\nThe demo can be removed: python -m footfall demo --remove")
    if sys.stdout.isatty() and (sys.platform == "darwin" or os.environ.keys() & {"DISPLAY", "WAYLAND_DISPLAY"}):
        webbrowser.open(url)


def _set_up(services: Services, site: DemoSite, days: int) -> date:
    """Set the site up, and return the day of its launch. A later run keeps the day."""
    services.sites.change(*load_changes(site.site_id, {**site.settings, "domains": [site.host]}))
    services.funnels.save(SavedFunnel(site.site_id, "Conversion", site.funnel, "visit"))
    for annotation in services.annotations.list(site.site_id, date.min, date.max):
        if annotation.text == _LAUNCH:
            return annotation.day
    day = services.now().astimezone(site.zone).date() - days // 4 * ONE_DAY
    services.annotations.add(Annotation(site.site_id, day, _LAUNCH))
    return day


def _send_all(sender: "Sender", days: int, until: datetime, launches: Mapping[str, date]) -> int:
    """Sends the traffic of all sites, and returns the number of accepted events."""
    _wait(lambda: all(map(sender.knows, DEMO_SITES)), _KNOWN_LIMIT, "the ingestion app does not know the demo's sites")
    accepted = 0
    with click.progressbar(length=len(DEMO_SITES) * days, label="Sending", file=sys.stderr) as bar:
        for site in DEMO_SITES:
            for events in _by_day(site, days, until, launches[site.site_id]):
                accepted += sum(map(sender.send, batched(events, _EVENTS_A_REQUEST)))
                bar.update(1)
    return accepted


def _by_day(site: DemoSite, days: int, until: datetime, launch: date) -> Iterator[Iterator[dict[str, Any]]]:
    last = until.astimezone(site.zone).date()
    return (day_events(site, last - back * ONE_DAY, days, until, launch) for back in range(days - 1, -1, -1))


@dataclass(frozen=True, slots=True)
class Sender:
    """Sends events to the ingestion app with an API key."""

    connection: http.client.HTTPConnection
    secret: str

    def knows(self, site: DemoSite) -> bool:
        """Whether the app accepts an event of the site with this key."""
        event = {"site_id": site.site_id, "event_type": "pageview", "url": f"https://{site.host}/"}
        status, body, _ = self._post("/events?validate=1", [event])
        return status == 200 and body["accepted"] == 1 and "warnings" not in body

    def send(self, events: list[dict[str, Any]]) -> int:
        """Sends events, again if the app is busy, and returns how many were accepted."""
        while True:
            status, body, headers = self._post("/events", events)
            if status in (429, 503):
                time.sleep(min(float(headers.get("Retry-After", 1)), _STALL_LIMIT))
            elif status != 200 or body["rejected"]:
                fail(f"the ingestion app answered {status}: {str(body)[:500]}", 1)
            else:
                return int(body["accepted"])

    def _post(self, path: str, events: list[dict[str, Any]]) -> tuple[int, Any, http.client.HTTPMessage]:
        headers = {"Authorization": f"Bearer {self.secret}", "Content-Type": "application/json"}
        try:
            self.connection.request("POST", path, msgspec.json.encode(events), headers)
            answer = self.connection.getresponse()
            return answer.status, msgspec.json.decode(answer.read()), answer.headers
        except (OSError, http.client.HTTPException, msgspec.DecodeError) as error:
            fail(f"the ingestion app does not answer: {type(error).__name__}. Check that the system runs.", 1)


def _wait_until_stored(services: Services) -> None:
    left = _count_waiting(services)
    changed = time.monotonic()
    with click.progressbar(length=left, label="Storing", file=sys.stderr) as bar:
        while left:
            time.sleep(0.2)
            now = _count_waiting(services)
            if now != left:
                bar.update(left - now)
                left, changed = now, time.monotonic()
            elif time.monotonic() - changed > _STALL_LIMIT:
                fail(f"{left:,} events are not stored. Check that a worker runs: `python -m footfall doctor`.", 1)


def _count_waiting(services: Services) -> int:
    """The events of the demo's sites that the ledger counts as accepted, and not yet by what became of them."""
    today = services.now().date()
    counts: Counter[str] = Counter()
    for site in DEMO_SITES:
        for day in services.ledger.of_site(site.site_id, today - ONE_DAY, today).values():
            counts.update(day)
    settled = sum(
        n for name, n in counts.items() if name in (STORED, DUPLICATE, DEAD) or name.startswith(DROPPED_LATER)
    )
    return counts[ACCEPTED] - settled


def _build(services: Services) -> None:
    """Builds the segments at once. If it cannot, a worker builds them within minutes."""
    logging.getLogger("analytics").setLevel(logging.WARNING)  # the progress bar says what is built
    segments = services.segments
    with suppress(Unavailable):
        months = [(site.site_id, month) for site in DEMO_SITES for month in months_of(segments, site.site_id)]
        with click.progressbar(months, label="Building", file=sys.stderr) as bar:
            for site_id, month in bar:
                list(rebuild(segments.builder, site_id, [month]))


def _remove(services: Services) -> None:
    end = datetime.now(UTC) + ONE_DAY
    for site in DEMO_SITES:
        purged = services.purger.purge(site.site_id, end)
        for funnel in services.funnels.list(site.site_id):
            services.funnels.remove(site.site_id, funnel.id)
        for annotation in services.annotations.list(site.site_id, date.min, date.max):
            services.annotations.remove(site.site_id, annotation.id)
        services.sites.remove(site.site_id)
        click.echo(f"{site.site_id} and its {purged.events:,} events are removed.")


def _wait(condition: Callable[[], bool], limit: float, otherwise: str) -> None:
    end = time.monotonic() + limit
    while not condition():
        if time.monotonic() > end:
            fail(otherwise, 1)
        time.sleep(0.5)
