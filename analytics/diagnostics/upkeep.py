"""Checks what needs attention over weeks: the format of the data, the last backup, the archive, the space on MongoDB's
disk, journals that are missing in the settings, and sites that stopped sending.

Reading the facts needs a connection; judging them does not. A value that the user may not read is None.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from pymongo.database import Database
from pymongo.errors import OperationFailure

from analytics.diagnostics.finding import Finding, ok, problem, warning
from analytics.events.event_index import EventIndex
from analytics.interval import DAY, Interval, as_ms
from analytics.journal.ledger import stored_by_day
from analytics.sites.store import all_sites
from analytics.store_notes import STORE_FORMAT, format_of, journals_left_out, state_of
from analytics.unavailable import Unavailable

if TYPE_CHECKING:
    from analytics.diagnostics.mongodb import MongoFacts

BACKED_UP_WITHIN = timedelta(days=7)
ARCHIVED_WITHIN = timedelta(hours=3)  # a worker archives every hour
ENOUGH_DAYS, FEW_DAYS = 30, 7
_DAYS = 7  # of the ledger, from which the rate is computed; and days on which a site sent events before it stopped
SILENT_FOR = timedelta(days=1)
_ABANDONED_AFTER = timedelta(days=14)
_MOST_SITES = 500  # that are checked
_MOST_SHOWN = 5
NOT_READ = warning("The MongoDB user may not read this.", "Give the user the role readWrite.")


@dataclass(frozen=True, slots=True)
class Upkeep:
    """`state` is what analytics/store_notes.py noted. `free` is the free bytes on MongoDB's disk, and `growth` the
    bytes that stored events took each day lately; None if this is not known. `silent` has the sites that stopped
    sending, with the time of their last event.
    """

    now: datetime
    state: Mapping[str, Any]
    free: int | None
    growth: float | None
    silent: Sequence[tuple[str, datetime]]


def read_upkeep(database: Database[dict[str, Any]], now: datetime) -> Upkeep | None:
    """Return the facts, or None if the user may not read them. Raises PyMongoError."""
    try:
        space = database.command("dbStats")
        free = int(space["fsTotalSize"] - space["fsUsedSize"]) if "fsTotalSize" in space else None
        state = state_of(database)
        return Upkeep(now, state, free, _growth(database, space, now), _silent(database, now))
    except OperationFailure:
        return None
    except Unavailable as error:
        if isinstance(error.cause, OperationFailure):
            return None
        raise error.cause from error


def data_format(mongodb: "MongoFacts") -> Finding:
    """Check that the data has the format of this version."""
    if mongodb.upkeep is None:
        return NOT_READ
    form = format_of(mongodb.upkeep.state)
    if form > STORE_FORMAT:
        what = f"The data has format {form}, and this version reads {STORE_FORMAT} at most."
        return problem(what, "Start the later version.")
    if form < STORE_FORMAT:
        remedy = "If all processes are of this version, run `python -m footfall upgrade`: docs/upgrading.md."
        return warning(f"The data has format {form}, and this version has format {STORE_FORMAT}.", remedy)
    return ok(f"The data has format {form}.")


def archive(mongodb: "MongoFacts") -> Finding:
    """Check that the archive was brought up to date lately, if there is one."""
    if not mongodb.archives:
        return ok("ARCHIVE is not set.")
    if mongodb.upkeep is None:
        return NOT_READ
    state, now = mongodb.upkeep.state, mongodb.upkeep.now
    made = state.get("archived_at")
    when = f"It was up to date at {made:%Y-%m-%d %H:%M} UTC." if made else "It was never up to date."
    if failure := state.get("archive_failure"):
        return warning(
            f"{failure.rstrip(chr(46))}. {when}", "Correct ARCHIVE, and run `python -m footfall archive run`."
        )
    if now - (made or state.get("since") or now) > ARCHIVED_WITHIN:
        remedy = "Check that a worker builds segments. `python -m footfall archive run` does it now."
        return warning(f"The archive is not up to date. {when}", remedy)
    return ok(f"The archive is up to date. {when}" if made else "Nothing is archived yet.")


def last_backup(mongodb: "MongoFacts") -> Finding:
    """Check that a backup was made lately. New stores have a week."""
    if mongodb.upkeep is None:
        return NOT_READ
    made, since, now = (*map(mongodb.upkeep.state.get, ("backed_up_at", "since")), mongodb.upkeep.now)
    remedy = "Make one: `python -m footfall backup backups/$(date +%F)`, each night."
    if made and now - made > BACKED_UP_WITHIN:
        return warning(f"The last backup is {(now - made).days} days old.", remedy)
    if made:
        return ok(f"The last backup is of {made:%Y-%m-%d %H:%M} UTC.")
    if since and now - since > BACKED_UP_WITHIN:
        return warning("There is no backup.", remedy)
    return ok("There is no backup yet.")


def disk_space(mongodb: "MongoFacts") -> Finding:
    """Check for how many days the disk of MongoDB suffices."""
    if mongodb.upkeep is None or mongodb.upkeep.free is None:
        return NOT_READ
    free, growth = mongodb.upkeep.free, mongodb.upkeep.growth
    shown = f"MongoDB's disk has {free / 1e9:,.1f} GB left"
    if not growth:
        return ok(f"{shown}. How fast it fills is known after some days with events.")
    days = int(free / growth)
    what = f"{shown}, for {days:,} days at {growth / 1e6:,.1f} MB a day."
    remedy = "Enlarge the disk, or set retention_days of sites."
    return ok(what) if days >= ENOUGH_DAYS else (warning if days >= FEW_DAYS else problem)(what, remedy)


def left_out_journals(mongodb: "MongoFacts") -> Finding:
    """Check that JOURNAL_URLS has each server that may hold events."""
    if mongodb.upkeep is None:
        return NOT_READ
    if left_out := journals_left_out(mongodb.upkeep.state, mongodb.journals):
        what = f"JOURNAL_URLS has no journal {', '.join(left_out)}. Events that wait there are not stored."
        remedy = "Add it again, or remove it as docs/operating.md says: `python -m footfall journals remove <journal>`."
        return problem(what, remedy)
    return ok("JOURNAL_URLS has each server that may hold events.")


def silent_sites(mongodb: "MongoFacts") -> Finding:
    """Check for sites that sent events each day for a week, and then none for a day."""
    if mongodb.upkeep is None:
        return NOT_READ
    if silent := mongodb.upkeep.silent:
        shown = ", ".join(f"{site} (last event {at:%Y-%m-%d %H:%M} UTC)" for site, at in silent[:_MOST_SHOWN])
        more = f", and {n} more" if (n := len(silent) - _MOST_SHOWN) > 0 else ""
        remedy = "Check that the script is in their pages, and `python -m footfall audit` for rejected events."
        return warning(f"Sites stopped sending: {shown}{more}.", remedy)
    return ok("No site that is set up stopped sending.")


def _growth(database: Database[dict[str, Any]], space: Mapping[str, Any], now: datetime) -> float | None:
    """Bytes a day, from the events that the ledger of closed days counted, and the average size of an event with its
    share of indexes and segments.
    """
    events = EventIndex(database).total()
    last = now.astimezone(UTC).date() - timedelta(days=2)
    by_day = stored_by_day(database, last - timedelta(days=_DAYS - 1), last)
    if not events or not sum(by_day):
        return None
    return float(sum(by_day) / len(by_day) * (space["storageSize"] + space["indexSize"]) / events)


def _silent(database: Database[dict[str, Any]], now: datetime) -> list[tuple[str, datetime]]:
    found, index = [], EventIndex(database)
    for site in sorted(site.site_id for site in all_sites(database))[:_MOST_SITES]:
        last = index.last_at(site)
        if last and SILENT_FOR < now - last < _ABANDONED_AFTER:
            ends = (as_ms(last) - n * DAY for n in range(_DAYS))
            if all(index.count(site, Interval(end - DAY, end), 1) for end in ends):
                found.append((site, last))
    return found
