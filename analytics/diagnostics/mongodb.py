"""Checks whether this MongoDB keeps what it acknowledges. Reading its state needs a connection; judging it does not.

Raises Unanswered if MongoDB does not answer, refuses the user, or is not the requested replica set. The finding states
the address, the reason, and what to do. A value that the user may not read is None.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pymongo
from pymongo import ReadPreference
from pymongo.database import Database
from pymongo.errors import NetworkTimeout, OperationFailure, PyMongoError

from analytics.diagnostics.encryption import tls_problem
from analytics.diagnostics.finding import ClockReading, Finding, Unanswered, ok, problem, warning
from analytics.diagnostics.server_kind import has_tls, kind_of_server
from analytics.diagnostics.upkeep import Upkeep, read_upkeep
from analytics.events.dirty_hours import DirtyHours, Waiting
from analytics.events.event_index import EventIndex
from analytics.events.store import INDEXES
from analytics.segments.due import due_at
from analytics.sites.names import Conflict, conflicts
from analytics.sites.store import all_sites
from analytics.unavailable import Unavailable

LATE = timedelta(minutes=15)
READ_LIMIT = 2.5  # seconds for all queries together
_OLDEST = (6, 0)
_UNAUTHORIZED = 13  # MongoDB's code of the error
MOST_SHOWN = 5  # conflicts
UP = (1, 2)  # states of a member: primary, secondary
MAKE_SET = (
    "Start mongod with `--replSet footfall`, run `mongosh --eval 'rs.initiate()'` once, "
    "and end MONGODB_URI with `?replicaSet=footfall`."
)
NO_SET = Finding("unchecked", "Needs a replica set.")
NOT_ASKED = warning(
    "The MongoDB user may not read the members of the replica set.",
    'Let the user: `mongosh admin --eval \'db.grantRolesToUser("<user>", ["clusterMonitor"])\'`.',
)


@dataclass(frozen=True, slots=True)
class MongoFacts:
    """What MongoDB reports, in its own words. `status` is from replSetGetStatus, `config` from replSetGetConfig, and
    `indexes` are those of events. `late` counts the hours of events that should have been in a segment for some time.
    `conflicts` are conflicts of sites' names. `upkeep`: see analytics/diagnostics/upkeep.py. A value is None if the
    user may not read it. `archives`: whether ARCHIVE is set. `journals`: the names in JOURNAL_URLS.
    """

    hello: Mapping[str, Any]
    version: str
    status: Mapping[str, Any] | None
    config: Mapping[str, Any] | None
    indexes: Mapping[str, Any] | None
    clock: ClockReading
    late: Waiting | None = None
    conflicts: Sequence[Conflict] | None = ()
    upkeep: Upkeep | None = None
    archives: bool = False
    journals: Sequence[str] = ()


def read_mongodb(database: Database[dict[str, Any]], now: Callable[[], float]) -> MongoFacts:
    """Query the primary, or another member if there is none. Raises Unanswered."""
    anyone = ReadPreference.PRIMARY_PREFERRED
    admin = database.client.admin

    def ask(command: str) -> Any:
        return admin.command(command, read_preference=anyone)

    with _answering(database):
        ask("ping")  # so that connecting is not part of the round trip
        asked = now()
        hello = ask("hello")
        clock = ClockReading(asked, hello["localTime"].timestamp(), now())
        status = _if_allowed(lambda: ask("replSetGetStatus"))
        config = _if_allowed(lambda: ask("replSetGetConfig"))
        indexes = _if_allowed(EventIndex(database.with_options(read_preference=anyone)).keys_by_name)
        return MongoFacts(
            hello,
            ask("buildInfo")["version"],
            status,
            config["config"] if config else None,
            indexes,
            clock,
            _late(database.with_options(read_preference=anyone), now()),
            _if_allowed(lambda: conflicts(all_sites(database.with_options(read_preference=anyone)))),
            read_upkeep(database.with_options(read_preference=anyone), datetime.fromtimestamp(now(), UTC)),
        )


def check_mongodb(database: Database[dict[str, Any]]) -> None:
    """Raises Unanswered if MongoDB does not answer, has no primary, or does not let this user read the events."""
    with _answering(database):
        EventIndex(database).keys_by_name()


@contextmanager
def _answering(database: Database[dict[str, Any]]) -> Iterator[None]:
    """Run a block that queries MongoDB. Raises Unanswered if the query fails."""
    try:
        with pymongo.timeout(READ_LIMIT):
            yield
    except OperationFailure as error:
        if error.code == _UNAUTHORIZED:
            raise Unanswered(_unauthorized(database, error)) from error
        remedy = "Set MONGODB_URI=mongodb://user:password@host/footfall?replicaSet=footfall&authSource=admin."
        reason = str((error.details or {}).get("errmsg", error.code)).rstrip(".")
        what = f"MongoDB at {_where(database)} refuses the user or the password: {reason}."
        raise Unanswered(problem(what, remedy)) from error
    except PyMongoError as error:
        raise Unanswered(_why_unanswered(database, error)) from error


def mongodb_version(mongodb: MongoFacts) -> Finding:
    if tuple(int(part) for part in mongodb.version.split(".")[:2]) < _OLDEST:
        return warning(f"MongoDB {mongodb.version} is too old for Footfall.", "Upgrade it to 6.0 or newer.")
    return ok(f"MongoDB {mongodb.version}.")


def mongodb_replica_set(mongodb: MongoFacts) -> Finding:
    if mongodb.hello.get("msg") == "isdbgrid":
        return ok("A sharded cluster, whose shards are replica sets.")
    if "setName" not in mongodb.hello:
        return problem("MongoDB is a standalone server. It does not guarantee that a stored event stays.", MAKE_SET)
    return ok(f"Replica set {mongodb.hello['setName']}.")


def mongodb_primary(mongodb: MongoFacts) -> Finding:
    if "setName" not in mongodb.hello:
        return NO_SET
    if "primary" not in mongodb.hello:
        remedy = "Start the members that are down. `mongosh --eval 'rs.status().members'` lists them."
        return problem("The replica set has no primary. Events wait in the journal.", remedy)
    return ok(f"{mongodb.hello['primary']} is the primary.")


def mongodb_majority(mongodb: MongoFacts) -> Finding:
    """Writes use w: majority with j: true, so more than half of the voting members must have them on disk."""
    if "setName" not in mongodb.hello:
        return NO_SET
    if mongodb.status is None or mongodb.config is None:
        return NOT_ASKED
    state = {member["_id"]: member["state"] for member in mongodb.status["members"]}
    voters, writers = _voters_and_writers(mongodb.config)
    down = [member["host"] for member in writers if state.get(member["_id"]) not in UP]
    needed = min(len(voters) // 2 + 1, len(writers))
    up = f"{len(writers) - len(down)} of {len(writers)} voting members with data are up; a write needs {needed}"
    if len(writers) - len(down) < needed:
        return problem(f"{up}. Events wait in the journal.", f"Start {', '.join(down)}.")
    return warning(f"{up}.", f"Start {', '.join(down)}.") if down else ok(f"{up}.")


def mongodb_failover(mongodb: MongoFacts) -> Finding:
    if "setName" not in mongodb.hello:
        return NO_SET
    if mongodb.config is None:
        return NOT_ASKED
    voters, writers = _voters_and_writers(mongodb.config)
    if len(writers) < 2:
        remedy = "Add two members on other machines: `mongosh --eval 'rs.add(\"<host>:27017\")'`."
        return warning("Only one member has the data. There is no failover, and its disk has the only copy.", remedy)
    if len(writers) < len(voters):
        remedy = "Replace it by a member with data: `mongosh --eval 'rs.remove(\"<arbiter>\")'`, then `rs.add`."
        return warning("An arbiter votes but stores no data, so a majority has the data on fewer disks.", remedy)
    if len(writers) < 3:
        remedy = "Add a third member: `mongosh --eval 'rs.add(\"<host>:27017\")'`."
        return warning("The replica set has two members. It accepts no writes if one of them is down.", remedy)
    return ok(f"{len(writers)} voting members have the data.")


def mongodb_journal(mongodb: MongoFacts) -> Finding:
    if "setName" not in mongodb.hello:
        return NO_SET
    if mongodb.config is None:
        return NOT_ASKED
    if not mongodb.config.get("writeConcernMajorityJournalDefault", True):
        remedy = (
            "Run `mongosh --eval 'c = rs.conf(); c.writeConcernMajorityJournalDefault = true; rs.reconfig(c)'`, "
            "and remove --nojournal and inMemory from every member."
        )
        return problem("Secondaries acknowledge a write before it is on their disk.", remedy)
    return ok("A majority acknowledges a write when it is on disk.")


def mongodb_indexes(mongodb: MongoFacts) -> Finding:
    if mongodb.indexes is None:
        return warning(
            "The MongoDB user may not read the indexes.", "Give the user the role readWrite on the database."
        )
    if not mongodb.indexes:
        return ok("No event is stored yet. The first event creates the indexes.")
    for name, keys in INDEXES.items():
        if all(index["key"] != keys for index in mongodb.indexes.values()):
            spec = ", ".join(f"{field}: {order}" for field, order in keys)
            remedy = f'Run `mongosh "$MONGODB_URI" --eval \'db.events.createIndex({{{spec}}}, {{name: "{name}"}})\'`.'
            return problem(f"The index {name} of events is missing. Each report reads every event.", remedy)
    return ok("The indexes of events exist.")


def segments_lag(mongodb: MongoFacts) -> Finding:
    if mongodb.late is None:
        return warning(
            "The MongoDB user may not read which hours have no segment.", "Give the user the role readWrite."
        )
    if mongodb.late.since is None:
        return ok("Segments are up to date.")
    what = f"{mongodb.late.hours:,} hours of events are not in segments yet. The oldest has waited since"
    remedy = (
        "Check that beat and a worker of the queue segments run, and look for segments_not_built in the workers' logs."
    )
    return warning(f"{what} {mongodb.late.since:%Y-%m-%d %H:%M} UTC. Reports read raw events instead.", remedy)


def site_names(mongodb: MongoFacts) -> Finding:
    """Check for sites that were set up before names had to be unique."""
    if mongodb.conflicts is None:
        return warning("The MongoDB user may not read the sites.", "Give the user the role readWrite.")
    if mongodb.conflicts:
        what = "; ".join(str(conflict) for conflict in mongodb.conflicts[:MOST_SHOWN])
        more = f", and {n} more" if (n := len(mongodb.conflicts) - MOST_SHOWN) > 0 else ""
        remedy = "Remove the name from one of the two sites: `python -m footfall sites set <site> domains=...`."
        return problem(f"Two sites share a name, so events of one may count for the other: {what}{more}.", remedy)
    return ok("Each domain, write key and site_id belongs to one site.")


def mongodb_clock(mongodb: MongoFacts) -> Finding:
    return mongodb.clock.check("MongoDB")


def _voters_and_writers(config: Mapping[str, Any]) -> tuple[list[Any], list[Any]]:
    """Return the voting members, and those of them that store data."""
    voters = [member for member in config["members"] if member["votes"]]
    return voters, [member for member in voters if not member["arbiterOnly"]]


def _unauthorized(database: Database[dict[str, Any]], error: OperationFailure) -> Finding:
    reason = str((error.details or {}).get("errmsg", "")).partition(" to execute command")[0].rstrip(".")
    what = f"MongoDB at {_where(database)} refuses a command of this user: {reason}."
    return problem(what, "Give the user the role readWrite on the database (docs/stores.md).")


def _why_unanswered(database: Database[dict[str, Any]], error: PyMongoError) -> Finding:
    """Distinguish a wrong replica set or another kind of server from a server that does not answer, by what the driver
    saw.
    """
    seen = database.client.topology_description
    servers = list(seen.server_descriptions().values())
    kinds = {server.server_type_name for server in servers}
    if not kinds and seen.replica_set_name:
        what = f"MongoDB at {_where(database)} is not a member of the replica set {seen.replica_set_name}."
        return problem(what, f"Correct replicaSet in MONGODB_URI. If it is a standalone: {MAKE_SET}")
    if kinds == {"RSGhost"}:
        what = f"The replica set of MongoDB at {_where(database)} is not initiated."
        return problem(what, "Run `mongosh --eval 'rs.initiate()'` once.")
    is_clear = database.client.options.pool_options._ssl_context is None
    for server in servers:
        host, port = server.address
        if found := tls_problem(server.error, f"MongoDB at {host}:{port}", "MONGODB_URI", "tlsCAFile"):
            return found
        is_odd = server.error and is_clear and not _is_away(server.error)
        kind = kind_of_server(host, port or 27017) if is_odd else ""
        if is_odd and has_tls(host, port or 27017):
            return problem(f"The server at {host}:{port} expects TLS.", "Add tls=true to MONGODB_URI (docs/stores.md).")
        if kind not in ("", "MongoDB"):
            return problem(f"The server at {host}:{port} is {kind}, not MongoDB.", "Correct MONGODB_URI.")
    reason = next((_reason(server.error) for server in servers if server.error), str(error).partition(", Timeout:")[0])
    remedy = "Start it, or correct MONGODB_URI. If it is not set, `make run` starts MongoDB."
    return problem(f"MongoDB does not answer at {_where(database)}: {reason}.", remedy)


def _is_away(error: Exception) -> bool:
    return "refused" in str(error) or "not known" in str(error)


def _reason(error: Exception) -> str:
    """Return a known reason, or else the driver's message, which repeats the server and its timeouts."""
    text = str(error)
    if "refused" in text:
        return "the connection was refused"
    if "Name or service not known" in text or "nodename nor servname" in text:
        return "there is no host of this name"
    if isinstance(error, NetworkTimeout):
        return "no answer in time"
    return text.partition(" (configured")[0].rstrip(".")


def _where(database: Database[dict[str, Any]]) -> str:
    """Return the hosts and ports of MONGODB_URI."""
    return ",".join(
        f"{host}:{port}" if port else host for host, port in sorted(database.client._topology_settings.seeds)
    )


def _late(database: Database[dict[str, Any]], now: float) -> Waiting | None:
    try:
        return DirtyHours(database).waiting(due_at(datetime.fromtimestamp(now, UTC) - LATE))
    except Unavailable:
        return None


def _if_allowed(ask: Callable[[], Any]) -> Any:
    try:
        return ask()
    except OperationFailure:
        return None
