"""Stores the settings of sites in MongoDB. Only this module knows MongoDB's names of a site's settings.

Every report needs its site's settings, so they are cached for a few seconds. A process sees its own changes at once,
and the changes of other processes after `REMEMBERED` seconds. Callers must handle Unavailable, raised if MongoDB is
unreachable or slow.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, fields, replace
from functools import partial
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any
from uuid import uuid4
from zoneinfo import ZoneInfo

from pymongo import ReturnDocument
from pymongo.client_session import ClientSession
from pymongo.database import Database

from analytics.languages import joined, translatable
from analytics.mongodb import reading, writing
from analytics.sites.names import conflict_of, names_of, spellings
from analytics.sites.schema import MOST_SAVED
from analytics.sites.site import Goal, SavedFilter, Site
from analytics.suggestion import did_you_mean
from analytics.timed_cache import TimedCache
from analytics.urls import LONGEST_HOST, plain_host, plain_name

REMEMBERED = 5.0  # seconds
_READ_AGAIN_AFTER = 1.0  # seconds
MOST_REMEMBERED = 1000  # names come from callers, so their number must be limited
MOST_SUGGESTED = 1000  # sites whose names are compared with an unknown name


# MongoDB's names of the fields of Site.
_NAMES = {field.name: field.name for field in fields(Site)} | {"site_id": "_id", "zone": "timezone"}
_GIVING_NAMES = ("domains", "write_key", "script_path", "endpoint_path")  # see names.py
# How to read the fields that MongoDB cannot hold as they are. A list of texts becomes a tuple without an entry here.
_READ: Mapping[str, Callable[[Any], Any]] = {
    "zone": ZoneInfo,
    "goals": lambda goals: tuple(Goal(**goal) for goal in goals),
    "saved_filters": lambda saved: tuple(SavedFilter(**each) for each in saved),
    "excluded_ips": lambda networks: tuple(map(ip_network, networks)),
}


class Taken(Exception):
    """Another site has a name that this `field` would give to the site."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


class TooManySaved(Exception):
    """The site has MOST_SAVED filters."""


class UnknownSite(Exception):
    """No site has this name. `message` suggests another site, so it is only for callers who may see all sites."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class SiteStore:
    """Stores the settings of sites. `changed` is called after each change, to publish it. `clock` returns seconds and
    must be monotonic. `with_events` is used where events create a site: it returns those of the given site_ids, or of
    all, that have events.
    """

    def __init__(
        self,
        database: Database[dict[str, Any]],
        clock: Callable[[], float] = time.monotonic,
        changed: "Callable[[SiteStore], None]" = lambda _: None,
        with_events: Callable[[Sequence[str] | None], Sequence[str]] = lambda _: (),
    ) -> None:
        self._database = database
        self._sites = database["sites"]
        self._turns = database["site_turns"]
        self._with_events = with_events
        self._changed = changed
        self._remembered: TimedCache[tuple[str, str], Site | None] = TimedCache(MOST_REMEMBERED, REMEMBERED, clock)
        self._dropped: TimedCache[str, None] = TimedCache(MOST_REMEMBERED, _READ_AGAIN_AFTER, clock)

    def get(self, site_id: str) -> Site:
        """Return the site. A site without settings has the defaults. Raises Unavailable."""
        return self._recall("_id", site_id) or Site(site_id)

    def get_all(self, site_ids: Iterable[str]) -> dict[str, Site]:
        """Return these sites, as `get` does. Those that are not remembered take one query. Raises Unavailable."""
        found = self._remembered.get_all([("_id", site_id) for site_id in site_ids], self._find_all)
        return {site_id: site or Site(site_id) for (_, site_id), site in found.items()}

    def read(self, site_id: str) -> Site | None:
        """Return the site as it is stored now. A form that sends all settings back needs it: with those of some seconds
        ago, it would undo what another process has changed since. Raises Unavailable.
        """
        return self._find("_id", site_id)

    def find(self, name: str) -> Site | None:
        """Return the site with this id, or else the site with this domain, with or without `www.`, or None. It does not
        search write keys. Raises Unavailable.
        """
        if not _can_be_a_name(name):
            return None
        return self._recall("_id", name) or self._recall("domains", plain_host(name))

    def id_of(self, name: str) -> str:
        """Return the id of the site that `find` finds, or `name` itself if there is none. Raises Unavailable."""
        site = self.find(name)
        return name if site is None else site.site_id

    def ids_of(self, names: Sequence[str]) -> list[str]:
        """Return the ids of the sites with these names. Raises UnknownSite for the first name that is not set up and,
        where events create a site, has no events. Raises Unavailable.
        """
        ids = {name: site.site_id for name in names if (site := self.find(name))}
        ids |= {name: name for name in self._with_events([name for name in names if name not in ids])}
        for name in names:
            if name not in ids:
                raise self.unknown(name)
        return [ids[name] for name in names]

    def unknown(self, name: str) -> UnknownSite:
        """Return the exception for a name without a site. Raises Unavailable."""
        known = [each for site in self.list(limit=MOST_SUGGESTED) for each in (site.site_id, *site.domains)]
        known += self._with_events(None)[:MOST_SUGGESTED]
        return UnknownSite(
            joined(translatable("There is no site %(name)s.", name=repr(name)), did_you_mean(name, known))
        )

    def _recall(self, field: str, value: str) -> Site | None:
        return self._remembered.get((field, value), lambda: self._find(field, value))

    def put(self, site: Site) -> Site:
        """Replace the settings of a site, and return the site. Without a write key, the site keeps its key or gets a
        new one. Raises Taken, and Unavailable, after which the settings may or may not be stored.
        """
        return self._write(site.site_id, lambda _: to_document(site))

    def change(self, site: Site, names: Iterable[str]) -> Site:
        """Set the settings with these names, as MongoDB calls them, to the values in `site`. All others stay. It is one
        step, so that two simultaneous changes of different settings both hold. Returns the site as it is now. Raises as
        put does.
        """
        document = to_document(site)
        changed = {name: document[name] for name in {"_id", *names}}
        defaults = to_document(Site(site.site_id))
        return self._write(site.site_id, lambda there: {**defaults, **there, **changed})

    def edit(self, site_id: str, edited: Callable[[Site | None], Site]) -> Site:
        """Replace the settings of a site by what `edited` makes of them, in one step. `edited` gets None if the site
        has no settings, and may run several times. Raises as put does, and what `edited` raises.
        """
        return self._write(site_id, lambda there: to_document(edited(from_document(there) if there else None)))

    def save_filter(self, site_id: str, name: str, filters: str) -> SavedFilter:
        """Save a filter of the site. It replaces the one of the same name, and keeps its id. Raises TooManySaved and
        Unavailable.
        """

        def with_filter(site: Site | None) -> Site:
            site = site or Site(site_id)
            ids = {each.name: each.id for each in site.saved_filters}
            if len({*ids, name}) > MOST_SAVED:
                raise TooManySaved
            new = SavedFilter(ids.get(name) or max(ids.values(), default=0) + 1, name, filters)
            others = (each for each in site.saved_filters if each.name != name)
            return replace(site, saved_filters=(*others, new))

        return next(each for each in self.edit(site_id, with_filter).saved_filters if each.name == name)

    def remove_filter(self, site_id: str, filter_id: int) -> None:
        """Remove a saved filter of the site, if there is one. Raises Unavailable."""
        with self._changing():
            self._sites.update_one({"_id": site_id}, {"$pull": {"saved_filters": {"id": filter_id}}})
        self._changed(self)

    def read_again(self, name: str) -> None:
        """Read the site with this name when it is next needed, at most once a second: another process may have changed
        it a moment ago.
        """
        self._dropped.get(name, lambda: self._drop(name))

    def _drop(self, name: str) -> None:
        self._remembered.drop(("_id", name))
        self._remembered.drop(("domains", plain_host(name)))

    def rotate_write_key(self, site_id: str) -> Site | None:
        """Give the site a new write key; the old key stops working. Returns the site, or None if it has no settings.
        Raises Unavailable.
        """
        with self._changing():
            kept = self._sites.find_one_and_update(
                {"_id": site_id}, {"$set": {"write_key": str(uuid4())}}, return_document=ReturnDocument.AFTER
            )
        self._changed(self)
        return from_document(kept) if kept else None

    def remove(self, site_id: str) -> bool:
        """Remove the settings, and return whether there were any. The site's events stay. Raises Unavailable."""
        with self._changing():
            removed = self._sites.delete_one({"_id": site_id}).deleted_count > 0
        self._changed(self)
        return removed

    def list(self, after: str = "", limit: int = 100) -> Sequence[Site]:
        """Return the sites that have settings, by site_id. `after`: only those that follow this site_id. Raises
        Unavailable.
        """
        with reading(self._database):
            return [from_document(x) for x in self._sites.find({"_id": {"$gt": after}}).sort("_id").limit(limit)]

    def all(self) -> Sequence[Site]:
        """Return all sites that have settings. Raises Unavailable."""
        return self.list(limit=0)

    def known(self) -> Sequence[Site]:
        """Return all sites by site_id: those that have settings and, where events create a site, those that have
        events. Raises Unavailable.
        """
        found = {site.site_id: site for site in self.all()}
        return [found.get(site_id, Site(site_id)) for site_id in sorted({*found, *self._with_events(None)})]

    def _write(self, site_id: str, settings: Callable[[dict[str, Any]], dict[str, Any]]) -> Site:
        """Write the site. `settings` returns the new document for the existing one, or for {}."""
        with self._changing(), self._database.client.start_session() as session:
            kept = session.with_transaction(partial(self._replace, site_id=site_id, settings=settings))
        self._changed(self)
        return kept

    def _replace(
        self, session: ClientSession, site_id: str, settings: Callable[[dict[str, Any]], dict[str, Any]]
    ) -> Site:
        """Changes of sites are serialised: a transaction that conflicts with another one here runs again. Two changes
        that claim the same name therefore do not both find it free, and two that create the same site agree on its
        write key.
        """
        self._turns.update_one({"_id": "turn"}, {"$inc": {"turns": 1}}, upsert=True, session=session)
        there = self._sites.find_one({"_id": site_id}, session=session) or {}
        document = settings(there)
        document["write_key"] = document["write_key"] or there.get("write_key") or str(uuid4())
        site = from_document(document)
        self._check_names(site, from_document(there) if there else None, session)
        self._sites.replace_one({"_id": site_id}, document, upsert=True, session=session)
        return site

    def _check_names(self, site: Site, before: Site | None, session: ClientSession) -> None:
        """Check the new names. The site keeps its existing names, because a conflict from before this check would
        otherwise block all its settings. Raises Taken.
        """
        had = names_of(before) if before else {}
        new = {name: field for name, field in names_of(site).items() if name not in had}
        if not new:
            return
        others = self._sites.find({"_id": {"$ne": site.site_id}}, _GIVING_NAMES, session=session)
        if conflict := conflict_of(site, new, map(from_document, others)):
            raise Taken(conflict.field, f"{conflict.name} belongs to the site {conflict.other_site_id!r}.")
        own = {site.site_id, *had}
        for taken in self._with_events([name for name in spellings(new) if name not in own]):
            field = new.get(plain_name(taken), "domains")
            raise Taken(field, f"{taken} is a site that has events. Set {taken!r} instead, or choose another name.")

    def _find(self, field: str, value: str) -> Site | None:
        with reading(self._database):
            document = self._sites.find_one({field: value})
        return from_document(document) if document else None

    def _find_all(self, keys: Sequence[tuple[str, str]]) -> dict[tuple[str, str], Site | None]:
        """`keys`: `_id` and the id of each site."""
        with reading(self._database):
            found = map(from_document, self._sites.find({"_id": {"$in": [site_id for _, site_id in keys]}}))
            return dict.fromkeys(keys) | {("_id", site.site_id): site for site in found}

    @contextmanager
    def _changing(self) -> Iterator[None]:
        try:
            with writing(self._database):
                yield
        finally:
            self._remembered.clear()  # a domain may belong to another site now


def _can_be_a_name(name: str) -> bool:
    """Whether the name is no longer than an id or a domain, and valid text: MongoDB rejects half of a surrogate
    pair.
    """
    try:
        return len(name.encode()) <= 4 * LONGEST_HOST
    except UnicodeEncodeError:
        return False


def all_sites(database: Database[dict[str, Any]]) -> Iterator[Site]:
    """Yield the sites that have settings, in no order. Raises PyMongoError."""
    return map(from_document, database["sites"].find({}))


def to_document(site: Site) -> dict[str, Any]:
    """Return the document for MongoDB. JSON can hold it too."""
    return {stored: _to_stored(getattr(site, name)) for name, stored in _NAMES.items()}


def from_document(document: Mapping[str, Any]) -> Site:
    """Return the site. The document may be from an older version, which did not know all settings, or from a newer one,
    which knew more.
    """
    there = {name: document[stored] for name, stored in _NAMES.items() if stored in document}
    return Site(**{name: _READ.get(name, _from_list)(value) for name, value in there.items()})


def _to_stored(value: object) -> object:
    match value:
        case tuple():
            return [_to_stored(each) for each in value]
        case Goal() | SavedFilter():
            return asdict(value)
        case ZoneInfo():
            return value.key
        case IPv4Network() | IPv6Network():
            return str(value)
        case _:
            return value


def _from_list(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
