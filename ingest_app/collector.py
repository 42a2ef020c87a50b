"""The collector: admits the events of hits. From then on Footfall is responsible for them.

When Collector.admit returns, the admitted events are durable in the journal, and the rejected and dropped events are
counted. Callers must handle Unavailable (our problem: nothing was promised, and the same event_ids may be sent again)
and TooManyRequests. Reading a hit raises InvalidEvent (the caller's mistake).

An event passes analytics/events/schema.py, then the look-up of its site, then policy.py. Then the collector adds what
the event lacks: its time by our clock, its visitor (analytics/visitors/anonymous_ids.py), and its client. The client is
sealed, and a worker derives the rest from it.
"""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import datetime
from functools import lru_cache, partial
from hmac import digest
from itertools import compress
from typing import Any

from msgspec import Struct, field, structs
from prometheus_client import Metric
from werkzeug.exceptions import HTTPException, TooManyRequests

from analytics.access.api_key import WRITE_SCOPE, ApiKey, is_ours
from analytics.access.key_ring import KeyRing
from analytics.addresses import plain_address, subscriber_network
from analytics.enrichment.steps import Lookups
from analytics.event_loop import WouldWait, may_wait
from analytics.events.account import DROPPED, REFUSED, REJECTED, Account
from analytics.events.drop import Drop
from analytics.events.event_size import event_bytes, fits, largest_field, trimmed
from analytics.events.schema import InvalidEvent, Sent, load_event, load_exported_event
from analytics.interval import whole_milliseconds
from analytics.journal.journal import Journal, Line
from analytics.sites.registry import SiteRegistry
from analytics.sites.site import Site
from analytics.unavailable import Breaker, Unavailable
from analytics.visitors.anonymous_ids import Act, Carried, Visitors
from analytics.visitors.client import Client
from analytics.visitors.salts import SALT_ZONE, Salts
from config.metrics import COMMIT_EVENTS, COMMIT_SECONDS, EVENT_OUTCOMES, journal_gauges
from config.services import Services
from config.settings import Settings
from ingest_app.group_commit import GroupCommit
from ingest_app.hit import LONGEST_USER_AGENT, MOST_LOOK_UPS, MOST_ON_LOOP, SENDER, Hit, sender_and_size, too_many_sites
from ingest_app.policy import Arrival, reason_to_drop, when_it_occurred
from ingest_app.preview import as_json, resolve
from tasks.events import WakeUps
from web.commits import COMMITS, hold_response
from web.rate_limits import (
    ADDRESS,
    ADDRESS_BYTES,
    ADDRESS_EVENTS,
    KEY_BYTES,
    KEY_EVENTS,
    KEY_REQUESTS,
    SITE,
    RateLimits,
)

# A hit that names more sites than this has its rejected events counted for none of them. Each name takes 98 bytes of
# Redis, and a client can make up thousands of names at no cost.
_MOST_SITES = 10
OVER_SHARE = (
    "The site {site_id!r} has used its share of the journal, because its events arrive faster than they are stored."
    " Send these events again later."
)
DRAINED_AFTER = 30  # seconds: the waiting events of a refused site take minutes to store
_NO_CLIENT = Client()
MOST_EXPLAINED = 100  # rejected events of a hit. An explanation takes 0.2 ms, so later ones get none.


class Admitted(Struct, frozen=True):
    """The outcome of a hit's events: the numbers of accepted and dropped events, and the rejected ones by their index.

    `reasons`: by index, why events were dropped. It has only events of sites that the sender's API key may write.
    `has_bad_key`: the hit had an API key that is unknown, expired or revoked, and was treated as a hit without one.
    `resolved`: by index, the accepted events as they would be stored, if they were only sent to be validated.
    `exported`: the indexes of exported events (see _Examiner.may_import).
    """

    accepted: int
    rejected: dict[int, InvalidEvent]
    dropped: int
    reasons: dict[int, str]
    has_bad_key: bool = False
    resolved: dict[int, dict[str, Any]] = field(default_factory=dict)
    exported: Collection[int] = ()


def make_collector(
    settings: Settings, services: Services, wake_ups: WakeUps, commits: type[GroupCommit[Line]] = GroupCommit
) -> "Collector":
    """Returns the collector that the settings describe."""
    return Collector(
        services.journal,
        wake_ups,
        services.now,
        sites=services.registry,
        keys=services.key_ring,
        salts=services.salts,
        visitors=services.visitors,
        limits=RateLimits(services.rate_storage, settings.rate_limits),
        lookups=services.lookups,
        is_open=not settings.is_production,
        commits=commits,
    )


class Collector:
    """`is_open`: every site_id is accepted, also if no such site is set up."""

    def __init__(
        self,
        journal: Journal,
        wake_ups: WakeUps,
        now: Callable[[], datetime],
        *,
        sites: SiteRegistry,
        keys: KeyRing,
        salts: Salts,
        visitors: Visitors,
        limits: RateLimits,
        lookups: Lookups,
        is_open: bool,
        commits: type[GroupCommit[Line]],
    ) -> None:
        self._journal = journal
        self._wake_ups = wake_ups
        self._now = now
        self.sites = sites
        self._keys = keys
        self._salts = salts
        self._visitors = visitors
        self.limits = limits
        self._lookups = lookups
        self._is_open = is_open
        self._commits = {part: commits(partial(self._commit, part), size=_size) for part in journal.parts}
        # With one journal, a commit costs no look-up.
        self._append = next(iter(self._commits.values())).append if len(self._commits) == 1 else self._append_by_site
        self._marks = GroupCommit[Carried](visitors.mark)
        self._limits_addresses = any(map(limits.holds, (ADDRESS, ADDRESS_EVENTS, ADDRESS_BYTES)))
        self._breaker = Breaker("redis", Unavailable)

    def use_loop(self, loop: asyncio.AbstractEventLoop) -> None:
        """The server calls it before the first request. From then on commits need no thread."""
        for part, group in self._commits.items():
            group.use_loop(loop, self._committing_on_loop(part))
        self._marks.use_loop(loop, self._visitors.marking_on_loop())

    def check_address_limit(self, address: str) -> str:
        """Charges a hit to its sender's limits before any of its body is read. Returns the sender's name in the limits.

        The name is made with today's salt, so that no address is stored in Redis. If there is no salt or no limit, the
        hit is not counted and "" is returned. Raises TooManyRequests.
        """
        if not self._limits_addresses:
            return ""
        try:
            salt = self._salts.of(SALT_ZONE, self._now().date())
        except Unavailable:
            return ""
        who = digest(salt, f"address {subscriber_network(address)}".encode(), "sha256")[:8].hex()
        self.limits.spend(ADDRESS, who)
        self.limits.check(ADDRESS_EVENTS, who)
        self.limits.check(ADDRESS_BYTES, who)
        return who

    def charge_address(self, environ: dict[str, Any]) -> None:
        """Charges a request to its sender, once also if it is handled again. Raises TooManyRequests."""
        if SENDER not in environ:
            environ[SENDER] = self.check_address_limit(environ.get("REMOTE_ADDR", ""))

    def counting_what_cannot_be_read(self, environ: Mapping[str, Any]) -> "_CountingFailures":
        """Wraps the reading of a request's body. A body that cannot be read is charged to its sender. An InvalidEvent
        is counted before it is raised again.
        """
        return _CountingFailures(self, environ)

    def count_failure(self, environ: Mapping[str, Any], error: InvalidEvent | HTTPException) -> None:
        """Charges and counts a body that cannot be read."""
        sender, size = sender_and_size(environ)
        if sender and size:
            with suppress(TooManyRequests):  # the sender's next hit is refused instead
                self.limits.spend(ADDRESS_BYTES, sender, size)
        if isinstance(error, InvalidEvent):
            hold_response(environ.get(COMMITS), self._append([_rejection(error, self._now())]))

    def admit(self, hit: Hit) -> Admitted:
        """Admits the events of a hit. An invalid event does not affect the rest of the hit.

        Raises TooManyRequests for the whole hit, and Unavailable if a store is not reachable.
        """
        if len(hit.bodies) > MOST_ON_LOOP:
            may_wait()
        try:
            now = whole_milliseconds(self._now())
            key = self._key_of(hit)
            self._charge_sender(hit, key)
            seen = self._examine(hit, key, now)
            arrivals = list(seen.arrivals.values())
            lines, taken = self._lines_of_hit(seen, arrivals, now)
        except Unavailable as error:  # a commit counts its own events
            EVENT_OUTCOMES.labels("refused", error.store).inc(len(hit.bodies))
            raise
        if lines:
            commit = self._append(lines)
            if taken:
                commit.add_done_callback(lambda _: self._give_back(taken) if commit.exception() else None)
            hold_response(hit.commits, commit)
        return seen.outcome(hit, key, len(arrivals))

    def _lines_of_hit(
        self, seen: "_Examined", arrivals: Sequence[Arrival], now: datetime
    ) -> tuple[list[Line], dict[str, int]]:
        """Returns the journal lines of a hit, and what its sites were charged."""
        lines = self._lines_of_counts(seen, now)
        taken = self._charge_sites(arrivals)
        try:
            self._check_shares(arrivals, now)
            lines += self._lines_of(arrivals, now)
        except (TooManyRequests, Unavailable, WouldWait):
            self._give_back(taken)
            raise
        return lines, taken

    def validate(self, hit: Hit) -> Admitted:
        """Returns what would become of a hit's events. Stores and counts nothing, and charges only the sender.

        Raises TooManyRequests and Unavailable.
        """
        may_wait()  # the enrichment of many user agents takes long
        key = self._key_of(hit)
        self._charge_sender(hit, key)
        seen = self._examine(hit, key, self._now())
        resolved = {}
        for index, arrival in seen.arrivals.items():
            found = resolve(arrival, self._lookups)
            if isinstance(found, Drop):
                seen.dropped[index] = found
            else:
                resolved[index] = as_json(found, arrival)
        return structs.replace(seen.outcome(hit, key, len(resolved)), resolved=resolved)

    def _examine(self, hit: Hit, key: ApiKey | None, now: datetime) -> "_Examined":
        seen = _Examined()
        examiner = _Examiner(hit, key, self._site)
        for index, body in enumerate(hit.bodies):
            if examiner.may_import(body):
                seen.exported.add(index)
            try:
                found = examiner.examine(body, now, explain=len(seen.rejected) < MOST_EXPLAINED)
            except InvalidEvent as error:
                # They keep frames alive, and a hit may have thousands of them.
                error.__traceback__ = error.__context__ = None
                seen.rejected[index] = error
            else:
                if isinstance(found, Drop):
                    seen.dropped[index] = found
                else:
                    seen.arrivals[index] = found
        return seen

    def _charge_sender(self, hit: Hit, key: ApiKey | None) -> None:
        """Charges the API key, or without one the address, whatever the outcome of the events is.

        Raises TooManyRequests.
        """
        try:
            if key is not None:
                self.limits.spend(KEY_REQUESTS, str(key.id), charged=hit.charged)
                self.limits.spend(KEY_BYTES, str(key.id), hit.size, hit.charged)
                self.limits.spend(KEY_EVENTS, str(key.id), len(hit.bodies), hit.charged)
            elif hit.sender:
                self.limits.spend(ADDRESS_BYTES, hit.sender, hit.size, hit.charged)
                self.limits.spend(ADDRESS_EVENTS, hit.sender, len(hit.bodies), hit.charged)
        except TooManyRequests:
            EVENT_OUTCOMES.labels("refused", "rate_limit").inc(len(hit.bodies))
            raise

    def _charge_sites(self, arrivals: Sequence[Arrival]) -> dict[str, int]:
        """Charges the sites of these events, and returns what it took. Raises TooManyRequests and takes nothing."""
        taken: dict[str, int] = {}
        if not self.limits.holds(SITE):
            return taken
        try:
            for site_id, count in Counter(arrival.event.site_id for arrival in arrivals).items():
                self.limits.take(SITE, site_id, count)
                taken[site_id] = count
        except (TooManyRequests, WouldWait) as error:
            self._give_back(taken)
            if isinstance(error, TooManyRequests):
                EVENT_OUTCOMES.labels("refused", "rate_limit").inc(len(arrivals))
            raise
        return taken

    def _give_back(self, taken: Mapping[str, int]) -> None:
        for site_id, count in taken.items():
            self.limits.give_back(SITE, site_id, count)

    def _check_shares(self, arrivals: Sequence[Arrival], now: datetime) -> None:
        """Raises TooManyRequests for the whole hit if one of its sites holds too much of the journal."""
        full = self._journal.over_its_share({arrival.event.site_id for arrival in arrivals})
        if full is None:
            return
        counts = Counter(arrival.event.site_id for arrival in arrivals)
        refusals = [Line(Account(x, now.date()), f"{REFUSED}site_quota", count=n) for x, n in counts.items()]
        hold_response(arrivals[0].hit.commits, self._append(refusals))
        raise TooManyRequests(OVER_SHARE.format(site_id=full), retry_after=DRAINED_AFTER)

    def _lines_of_counts(self, seen: "_Examined", now: datetime) -> list[Line]:
        """The journal lines that count the dropped and the rejected events."""
        if not seen.dropped and not seen.rejected:
            return []
        counted = self._sites_to_count(error.site_id for error in seen.rejected.values())
        counts = Counter((x.site_id, f"{DROPPED}{x.reason}") for x in seen.dropped.values())
        counts.update(
            (x.site_id if x.site_id in counted else "", f"{REJECTED}{x.code}") for x in seen.rejected.values()
        )
        return [Line(Account(site_id, now.date()), name, count=n) for (site_id, name), n in counts.items()]

    def _lines_of(self, arrivals: Sequence[Arrival], now: datetime) -> Iterator[Line]:
        """The journal lines of these events, each with its visitor and its sealed client."""
        gets_id = [x.gets_visitor_id for x in arrivals]
        acts = [Act(x.site, x.client, x.event.occurred_at) for x in compress(arrivals, gets_id)]
        ids, visits = self._visitors.identify(acts, now) if acts else ([], [])
        if visits:
            hold_response(arrivals[0].hit.commits, self._marks.append(visits))
        visitors = iter(ids)
        today = now.date()
        seals: dict[Client, str | None] = {_NO_CLIENT: None}
        for arrival, gets in zip(arrivals, gets_id, strict=True):
            client = arrival.client
            if client not in seals:
                seals[client] = self._salts.seal(client, today)
            visitor = next(visitors) if gets else None
            yield Line.of(arrival.event, visitor_id=visitor, client=seals[client], dump=self._journal.dump)

    def _key_of(self, hit: Hit) -> ApiKey | None:
        """The hit's API key. Sending needs no key, so an invalid key counts as none. The answer reports it."""
        if not is_ours(hit.key):
            return None
        with self._breaker.closed():
            return self._keys.find(hit.key)

    def _sites_to_count(self, named: Iterable[str]) -> set[str]:
        """The sites for which rejected events are counted. In production only existing sites are counted."""
        sites = {site_id for site_id in named if site_id}
        if len(sites) > _MOST_SITES:
            return set()
        return sites if self._is_open else {site_id for site_id in sites if self._known(site_id)}

    def _known(self, site_id: str) -> Site | None:
        with self._breaker.closed():
            return self.sites.get(site_id)

    def _site(self, site_id: str) -> tuple[Site, bool]:
        """Returns the site, and whether it is set up.

        Raises InvalidEvent if it is unknown and the collector is not open.
        """
        site = self._known(site_id)
        if site is None and not self._is_open:
            # No site_id in this error: rejections are not counted under made-up names.
            raise InvalidEvent(
                {"site_id": ["This site does not exist. Correct site_id, or set up the site."]}, "unknown_site"
            )
        return site or _no_site(site_id), site is not None

    def _append_by_site(self, lines: Sequence[Line]) -> Future[None]:
        """All lines of a hit go to the journal of its last event, so that all of them are accepted or none."""
        return self._commits[self._journal.part_of(lines[-1].account.site_id)].append(lines)

    def _commit(self, journal: Journal, lines: Sequence[Line]) -> None:
        with self._counting(lines):
            owed = journal.append(lines)
        self._wake_up(owed)

    @asynccontextmanager
    async def _committing_on_loop(self, journal: Journal) -> AsyncIterator[Callable[[Sequence[Line]], Awaitable[None]]]:
        async def commit(lines: Sequence[Line]) -> None:
            with self._counting(lines):
                owed = await append(lines)
            self._wake_up(owed)

        async with journal.appending_on_loop() as append:
            yield commit

    @contextmanager
    def _counting(self, lines: Sequence[Line]) -> Iterator[None]:
        """Counts the lines that the block commits."""
        start = time.perf_counter()
        try:
            yield
        except Unavailable as error:
            EVENT_OUTCOMES.labels("refused", error.store).inc(len(lines))
            raise
        COMMIT_SECONDS.observe(time.perf_counter() - start)
        counts: Counter[str] = Counter()
        for line in lines:
            counts[line.name] += line.count
        COMMIT_EVENTS.observe(counts.total())
        for name, count in counts.items():
            outcome, _, reason = name.partition(":")
            EVENT_OUTCOMES.labels(outcome, reason).inc(count)

    def _wake_up(self, owed: int) -> None:
        if owed > 0:
            self._wake_ups.ask()

    def check(self) -> None:
        self._journal.check()

    def gauges(self) -> Iterable[Metric]:
        """Raises Unavailable if Redis is not reachable."""
        oldest = self._journal.oldest()
        age = (self._now() - oldest).total_seconds() if oldest else 0.0
        return journal_gauges(self._journal.waiting(), max(age, 0.0))


class _CountingFailures:
    """See Collector.counting_what_cannot_be_read. A class, because each hit needs one: a generator takes 2 µs more."""

    __slots__ = ("_collector", "_environ")

    def __init__(self, collector: Collector, environ: Mapping[str, Any]) -> None:
        self._collector = collector
        self._environ = environ

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is not None and isinstance(error, InvalidEvent | HTTPException):
            self._collector.count_failure(self._environ, error)


class _Examined(Struct):
    """A hit's events by their index."""

    arrivals: dict[int, Arrival] = field(default_factory=dict)
    rejected: dict[int, InvalidEvent] = field(default_factory=dict)
    dropped: dict[int, Drop] = field(default_factory=dict)
    exported: set[int] = field(default_factory=set)

    def outcome(self, hit: Hit, key: ApiKey | None, accepted: int) -> Admitted:
        reasons = {}
        if key is not None and self.dropped:
            dropped = sorted(self.dropped.items())
            reasons = {index: drop.reason for index, drop in dropped if key.may(WRITE_SCOPE, drop.site_id)}
        has_bad_key = key is None and is_ours(hit.key)
        return Admitted(accepted, self.rejected, len(self.dropped), reasons, has_bad_key, exported=self.exported)


class _Examiner:
    """Examines the events of one hit, one after the other. `find`: returns a site, and whether it is set up."""

    def __init__(self, hit: Hit, key: ApiKey | None, find: Callable[[str], tuple[Site, bool]]) -> None:
        self._hit = hit
        self._key = key
        self._find = find
        self._sites: dict[str, tuple[Site, bool]] = {}

    def examine(self, body: object, now: datetime, *, explain: bool = True) -> Arrival | Drop:
        """Returns the admitted event, or the reason to drop it. Raises InvalidEvent, and Unavailable from `find`."""
        if not isinstance(body, Sent):
            if isinstance(body, InvalidEvent):
                raise body
            if isinstance(body, Drop):
                self._site(body.site_id)  # raises InvalidEvent if there is no such site: nothing is counted for it
                return body
            if not isinstance(body, dict):
                raise InvalidEvent({"body": ["Not a JSON object."]})
        is_export = self.may_import(body)
        load = load_exported_event if is_export else load_event
        event = load(body, now, explain=explain)
        sent_at = None if is_export else self._hit.sent_at  # an export's times are by our clock
        occurred_at, clamped = when_it_occurred(event, sent_at and body.get("timestamp"), sent_at)
        if clamped or occurred_at is not event.occurred_at:
            event = structs.replace(event, occurred_at=occurred_at, clamped=clamped)
        site, is_configured = self._site(event.site_id)
        is_trusted = self._key is not None and self._key.may(WRITE_SCOPE, event.site_id)
        client = _client_of(body, Client() if is_trusted else self._hit.client, event.site_id)
        arrival = Arrival(event, self._hit, client, site, is_configured, is_trusted)
        reason = reason_to_drop(arrival)
        return Drop(reason, event.site_id) if reason else _sized(arrival)

    def may_import(self, body: object) -> bool:
        """Whether the event is exported (it has `id` and `received_at`), and the API key may write its site's events.

        The sender of an exported event also sets fields that otherwise only the collector sets.
        """
        if self._key is None or not isinstance(body, dict) or not (body.get("id") and body.get("received_at")):
            return False
        site_id = body.get("site_id")
        return isinstance(site_id, str) and self._key.may(WRITE_SCOPE, site_id)

    def _site(self, site_id: str) -> tuple[Site, bool]:
        if site_id not in self._sites:
            if len(self._sites) == MOST_LOOK_UPS:
                raise too_many_sites()
            self._sites[site_id] = self._find(site_id)
        return self._sites[site_id]


def _sized(arrival: Arrival) -> Arrival:
    """Returns the event if it fits its site's size limit, and otherwise the event without what it can lose.

    Only events that another system's client built are trimmed: such a client cannot send less, and a pageview is worth
    more than its properties. An exported event fitted when it was first sent, and has grown by its derived fields.
    Raises InvalidEvent if the event stays too large.
    """
    event, most = arrival.event, arrival.site.max_event_bytes
    if event.exported_id or fits(event, most):
        return arrival
    smaller = trimmed(event, most) if arrival.hit.is_foreign else None
    if smaller:
        return structs.replace(arrival, event=smaller)
    name, size = largest_field(event)
    message = (
        f"Takes {size} of the {event_bytes(event)} bytes of the event. The site accepts events of at most {most} bytes."
    )
    raise InvalidEvent({name: [message]}, "too_large", event.site_id)


def _client_of(body: dict[str, Any] | Sent, sender: Client, site_id: str) -> Client:
    """The client of the visitor.

    `sender`: the client of the hit, or an empty client if the sender is known to be a server.

    An event with an address of its own comes from a server, so nothing of `sender` is used for it. Raises InvalidEvent.
    """
    address, user_agent = body.get("ip") or "", body.get("user_agent") or ""
    if address == user_agent == "":
        return sender
    if not isinstance(user_agent, str):
        raise InvalidEvent({"user_agent": ["Not a valid string."]}, site_id=site_id)
    user_agent = user_agent[:LONGEST_USER_AGENT]
    if not address:
        return structs.replace(sender, user_agent=user_agent)
    plain = plain_address(address) if isinstance(address, str) else ""
    if not plain:
        raise InvalidEvent({"ip": ["Not an IP address."]}, site_id=site_id)
    return Client(plain, user_agent)


@lru_cache(1000)
def _no_site(site_id: str) -> Site:
    """The defaults, for a site that is not set up."""
    return Site(site_id)


def _size(lines: Sequence[Line]) -> int:
    return sum(len(line.event) for line in lines)


def _rejection(error: InvalidEvent, now: datetime) -> Line:
    return Line(Account("", now.date()), f"{REJECTED}{error.code}")
