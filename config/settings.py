"""Declares every setting in one place: its environment name, type, default and meaning.

`load_settings` reads the environment and `.env` (config/env_file.py) for every process, and returns a frozen
`Settings`. The environment overrides `.env`. An empty value means the default, so an empty value in the environment
hides the one in `.env`. If values cannot be used, or production lacks its secrets, one SettingsError names all of them.
"""

import math
import os
import re
import sys
from collections.abc import Callable, Iterator, Set
from dataclasses import Field, InitVar, dataclass, field, fields
from email.utils import parseaddr
from ipaddress import ip_address
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlsplit

from marshmallow import ValidationError, validate

from analytics.languages import ENGLISH, LANGUAGES
from analytics.urls import plain_origin
from config.env_file import EnvFile, EnvFileError, read_env_file
from config.running_servers import find_servers

_PORT = validate.Range(1, 65535)
POSITIVE = validate.Range(min=0, min_inclusive=False)
MEMORY = validate.Regexp(r"\d+(\.\d+)? ?[KMGT]i?B$", error="an amount of memory, such as 1GB or 512MiB")
RATE = validate.Regexp(
    r"(auto|none|[1-9]\d{0,8}/(second|minute|hour|day))$", error="a rate such as 1000/minute, or none, or auto"
)
LEVELS = validate.OneOf(["DEBUG", "INFO", "WARNING", "ERROR"])
PLAIN_MONGODB_URI = re.compile(
    r"mongodb://[a-z0-9.-]+(:([1-9]\d{0,3}|[1-5]\d{4}))?/[a-zA-Z0-9_-]{1,38}(\?replicaSet=[a-zA-Z0-9_-]+)?"
)
_FORMATS = validate.OneOf(["auto", "json", "console"])
# Options of the stores' URLs that name a file: certificates of authorities, or those of this client and their keys.
_AUTHORITIES = ("ssl_ca_certs", "tlscafile")
_FILES = (*_AUTHORITIES, "ssl_certfile", "ssl_keyfile", "tlscertificatekeyfile", "tlscrlfile")
_JOURNAL = re.compile(r"(-?)(?!main=)([a-z0-9]{1,8})=(\S+)")  # `main` is the journal in REDIS_URL

OF_OTHERS = ("COMPOSE_", "DOCKER_", "BUILDKIT_", "BUILDX_")  # Docker Compose reads these from `.env` itself
# The lowest similarity at which a name in the environment is reported, because other programs have names there.
OUR_NAMES = 0.85

# Production does not start without these. Flower does not start without its logins.
PRODUCTION = ("SECRET_KEY", "ADMIN_KEY")
FLOWER_LOGINS = "FLOWER_BASIC_AUTH"


_ESCAPED = ", with special characters in the password as %XX"


def is_address(value: str) -> None:
    try:
        ip_address(value)
    except ValueError:
        raise ValidationError("an IP address") from None


def is_address_or_none(value: str) -> None:
    if value:
        is_address(value)


def names_readable_files(value: str) -> None:
    """For URLs of stores. Raises ValidationError and ValueError."""
    import ssl  # noqa: PLC0415  not every process uses it

    for option, path in parse_qsl(urlsplit(value).query):
        if option.lower() in _FILES:
            try:
                Path(path).open("rb").close()
                if option.lower() in _AUTHORITIES:
                    ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
            except OSError as error:
                reason = "it has no certificate" if isinstance(error, ssl.SSLError) else error.strerror
                accepted = f"a URL whose {option} is a file of certificates that can be read"
                raise ValidationError(f"{accepted}, and {path[:200]!r} is not: {reason}") from None


def is_redis_url(value: str) -> None:
    from redis.connection import parse_url  # noqa: PLC0415  a process without Redis does not load its client

    try:
        parse_url(value)  # type: ignore[no-untyped-call]
        urlsplit(value).port  # noqa: B018 (raises ValueError)
        names_readable_files(value)
    except ValueError:
        raise ValidationError(f"a Redis URL, such as redis://user:password@host:6379/0{_ESCAPED}") from None


def are_journals(value: str) -> None:
    try:
        journals = read_journals(value)
        if len({journal.name for journal in journals}) < len(journals):
            raise ValueError
    except ValueError:
        raise ValidationError(
            "names and URLs of Redis servers, such as b=redis://host-b:6379/0,c=redis://host-c:6379/0. Each name has"
            " up to 8 lower-case letters and digits, differs from the others, and is not `main`"
        ) from None
    for journal in journals:
        is_redis_url(journal.url)


def is_mongodb_uri(value: str) -> None:
    if PLAIN_MONGODB_URI.fullmatch(value):
        return
    from pymongo.errors import PyMongoError  # noqa: PLC0415  8 MB, which Flower does without
    from pymongo.uri_parser import parse_uri  # noqa: PLC0415

    try:
        names_readable_files(value)
        if not value.startswith("mongodb+srv://"):  # reading it would query the DNS
            parse_uri(value, warn=True)
    except (PyMongoError, ValueError):
        raise ValidationError(f"a MongoDB URI, such as mongodb://user:password@host:27017/footfall{_ESCAPED}") from None


def is_file_storage(value: str) -> None:
    if "://" in value and not re.fullmatch(r"s3://[^/\s]+\S*", value):
        raise ValidationError(f"a folder, or a URL such as s3://key:secret@bucket/prefix{_ESCAPED}")


def are_sentinels(value: str) -> None:
    try:
        read_addresses(value)
    except ValueError:
        raise ValidationError("addresses of sentinels, such as host-a:26379,host-b:26379") from None


def are_origins(value: str) -> None:
    if any(plain_origin(each) != each for each in read_origins(value)):
        raise ValidationError("origins as browsers send them, such as https://intranet.example, with commas between")


def read_origins(value: str) -> frozenset[str]:
    return frozenset(filter(None, map(str.strip, value.split(","))))


def is_web_url(value: str) -> None:
    if value and not (is_url_of(value, "http", "https") and "@" not in value):
        raise ValidationError("a URL such as https://stats.example.com")


def is_smtp_url(value: str) -> None:
    if value and not (is_url_of(value, "smtp", "smtps") and not urlsplit(value).path.strip("/")):
        raise ValidationError(f"a URL such as smtp://user:password@host:587{_ESCAPED}")


def is_url_of(value: str, *schemes: str) -> bool:
    try:
        parts = urlsplit(value)
        return bool(parts.scheme in schemes and parts.hostname and parts.port != 0)
    except ValueError:
        return False


def is_sender(value: str) -> None:
    address = parseaddr(value)[1]
    if value and not (value.isprintable() and re.fullmatch(r"[!-?A-~]+@[!-?A-~]+", address)):
        raise ValidationError("a sender such as Footfall <footfall@example.com>")


def are_logins(value: str) -> None:
    if not all(all(login.partition(":")[::2]) for login in value.split(",")):
        raise ValidationError("user:password, or several of them with commas between")


def read_addresses(value: str) -> list[tuple[str, int]]:
    """Reads "host:port,host:port". Raises ValueError."""
    found = []
    for item in value.split(",") if value else []:
        parts = urlsplit(f"//{item.strip()}")
        if not (parts.hostname and parts.port) or parts.netloc != item.strip() or "@" in parts.netloc:
            raise ValueError(item)
        found.append((parts.hostname, parts.port))
    return found


class FurtherJournal(NamedTuple):
    """A Redis server that holds waiting events. `takes_events`: whether it gets new ones."""

    name: str
    url: str
    takes_events: bool


def read_journals(value: str) -> list[FurtherJournal]:
    """Reads "name=URL,-name=URL". Raises ValueError."""
    found = []
    for item in value.split(",") if value else []:
        if not (parts := _JOURNAL.fullmatch(item.strip())):
            raise ValueError(item)
        found.append(FurtherJournal(parts[2], parts[3], takes_events=not parts[1]))
    return found


# A school behind one address fits in. One site leaves room for the others on a machine that takes 2,000 events/s. An
# address may send a tenth of a site's events, with 2.5 kB each. An API key may send all of them, with 1.25 kB each.
PRODUCTION_RATES = {
    "address": "1200/minute",
    "address_events": "12000/minute",
    "address_bytes": "30000000/minute",
    "key": "1200/minute",
    "key_events": "120000/minute",
    "key_bytes": "150000000/minute",
    "site": "120000/minute",
}


def threads_of_large_bodies(web_threads: int) -> int:
    """The threads for large bodies in a gunicorn process, beside WEB_THREADS. These bodies take CPU, and up to 25 times
    their size in memory. More of them at once are not done sooner.
    """
    return max(2, web_threads // 8)


class SettingsError(Exception):
    """Settings cannot be used. The message names each of them and the accepted values, and shows no secret."""


def is_key(value: str) -> None:
    if value and (len(value) < 16 or not value.isascii() or not value.isprintable() or " " in value):
        raise ValidationError("at least 16 printable ASCII characters without spaces")


def setting(
    kind: str, default: object, meaning: str, rule: Callable[[Any], Any] | None = None, *, secret: bool = False
) -> Any:
    """A field of Settings.

    `kind`: str, int or float. `rule`: raises ValidationError, whose message says what is accepted.

    The value of a `secret` is never shown.
    """
    metadata = {"kind": kind, "meaning": meaning, "rule": rule, "secret": secret}
    return field(default=default, repr=not secret, metadata=metadata)


@dataclass(frozen=True)
class Settings:
    """All settings. Field names in capitals are the environment's names. Times are in seconds, sizes in bytes."""

    app_env: str = setting(
        "str",
        "development",
        "`development`, or `production`: Footfall accepts only sites that are set up, every report of the API"
        " needs a key, the pages need an account, a shared link or a public site, and no process starts without the"
        " secrets",
        validate.OneOf(["development", "production"]),
    )
    secret_key: str = setting(
        "str",
        "",
        "a secret that is mixed into the salts in Redis, so that a copy of Redis alone cannot be used to"
        " recognise anonymous visitors; session cookies are signed with a key that is derived from it; 16 characters"
        " or more",
        is_key,
        secret=True,
    )
    secret_key_old: str = setting(
        "str", "", "the previous `SECRET_KEY`, for two days after you changed it", is_key, secret=True
    )
    mongodb_uri: str = setting(
        "str",
        "mongodb://127.0.0.1:27017/footfall?replicaSet=footfall",
        "MongoDB, the system of record; the path names the database. If unset, `make run` starts its own",
        is_mongodb_uri,
        secret=True,
    )
    redis_url: str = setting(
        "str",
        "",
        "Redis, journal and Celery broker; overrides `REDIS_HOST` and `REDIS_PORT`. If this, `REDIS_HOST` and"
        " `REDIS_SENTINELS` are unset, `make run` starts its own",
        is_redis_url,
        secret=True,
    )
    redis_host: str = setting("str", "127.0.0.1", "host of Redis, if `REDIS_URL` is unset")
    redis_port: int = setting(
        "int", 6379, "port of Redis, if `REDIS_URL` is unset; also the port of the Redis that `make run` starts", _PORT
    )
    redis_sentinels: str = setting(
        "str",
        "",
        "addresses of the sentinels, as host:port,host:port. User, password and database come from `REDIS_URL`;"
        " its host and port are not used",
        are_sentinels,
    )
    redis_master_name: str = setting("str", "mymaster", "the name of the Redis master at the sentinels")
    journal_urls: str = setting(
        "str",
        "",
        "further Redis servers that hold waiting events, as name=URL,name=URL; each takes the sites that a hash gives"
        " it. A server with a minus sign, as -name=URL, gets no new events. With sentinels, the host of a URL is the"
        " name of the master",
        are_journals,
        secret=True,
    )
    redis_replicas: int = setting(
        "int",
        1,
        "how many replicas must confirm an event before its 200, if `REDIS_SENTINELS` is set",
        validate.Range(min=0),
    )
    redis_timeout: float = setting(
        "float",
        0.8,
        "the longest wait for an answer of Redis; twice this time should stay under the 2 s within which a 503 is"
        " answered",
        POSITIVE,
    )
    redis_maxmemory: str = setting(
        "str",
        "1gb",
        "memory limit of the Redis that `make run` starts (about 200 bytes for each waiting event, and 480 for one of a"
        " browser); above 85 % the collector refuses events",
    )
    mongodb_port: int = setting(
        "int", 27017, "port of the MongoDB that `make run` starts, and of MongoDB if `MONGODB_URI` is unset", _PORT
    )
    ingestion_port: int = setting("int", 3000, "port of the ingestion app", _PORT)
    reporting_port: int = setting("int", 3001, "port of the reporting app", _PORT)
    worker_metrics_port: int = setting("int", 3002, "port of a worker's /metrics", _PORT)
    flower_port: int = setting("int", 5555, "port of Flower", _PORT)
    flower_basic_auth: str = setting(
        "str",
        "",
        "logins of Flower, as `user:password`, or several separated by commas. If unset, Flower has no password"
        " in development and does not start in production",
        are_logins,
        secret=True,
    )
    bind_host: str = setting("str", "127.0.0.1", "address that the two apps and Flower listen on", is_address)
    published_on: str = setting(
        "str",
        "",
        "address on which others reach the reporting app or Flower, if `BIND_HOST` is a container's own address",
        is_address_or_none,
    )
    web_concurrency: int = setting("int", 2, "gunicorn processes of each app", POSITIVE)
    web_threads: int = setting(
        "int",
        16,
        "threads in each gunicorn process for requests that may wait; large or compressed bodies have an eighth as many"
        " in addition, at least 2",
        POSITIVE,
    )
    worker_concurrency: int = setting("int", 2, "processes of a Celery worker; use the number of cores", POSITIVE)
    admin_key: str = setting(
        "str",
        "",
        "key to everything, 16 characters or more; use it to make API keys. If unset, administration is closed",
        is_key,
        secret=True,
    )
    report_key: str = setting(
        "str",
        "",
        "key to the reports, 16 characters or more; `ADMIN_KEY` and API keys open them too. If unset, reports"
        " are open in development on loopback, except those that show single persons",
        is_key,
        secret=True,
    )
    max_body_bytes: int = setting(
        "int",
        65536,
        "the largest body with one event, and of any request with `?validate=1`; 64 KiB is also the limit of"
        " sendBeacon. Routes for several events accept 5 MB",
        validate.Range(1, 500_000),
    )
    trusted_proxies: int = setting(
        "int",
        0,
        "number of proxies in front of Footfall, each of which adds to `X-Forwarded-For` and"
        " `X-Forwarded-Proto`; 0: the connected client is the visitor",
        validate.Range(0, 10),
    )
    report_cors_origins: str = setting(
        "str",
        "",
        "origins of pages that may read reports in a browser, with a key, such as `https://intranet.example`; commas"
        " separate several",
        are_origins,
    )
    place_headers: str = setting(
        "str",
        "",
        "the CDN whose headers give a visitor's place: `cloudflare`, `cloudfront` or `vercel`; only behind a"
        " trusted proxy",
        validate.OneOf(["", "cloudflare", "cloudfront", "vercel"]),
    )
    rate_limit_address: str = setting(
        "str",
        "auto",
        "requests to ingestion from one address, as `1000/minute`; `none`; or `auto`: 1200/minute in"
        " production, none in development",
        RATE,
    )
    rate_limit_address_events: str = setting(
        "str",
        "auto",
        "events from one address, whether accepted or not, in the same form; `auto` is 12000/minute in production",
        RATE,
    )
    rate_limit_address_bytes: str = setting(
        "str",
        "auto",
        "inflated bytes of bodies from one address, in the same form; `auto` is 30000000/minute in production",
        RATE,
    )
    rate_limit_key: str = setting(
        "str",
        "auto",
        "requests to ingestion with one API key, in the same form; `auto` is 1200/minute in production",
        RATE,
    )
    rate_limit_key_events: str = setting(
        "str",
        "auto",
        "events with one API key, which are not charged to the address, in the same form; `auto` is"
        " 120000/minute in production",
        RATE,
    )
    rate_limit_key_bytes: str = setting(
        "str",
        "auto",
        "inflated bytes of bodies with one API key, which are not charged to the address, in the same form;"
        " `auto` is 150000000/minute in production",
        RATE,
    )
    rate_limit_site: str = setting(
        "str", "auto", "accepted events of one site, in the same form; `auto` is 120000/minute in production", RATE
    )
    store_batch: int = setting(
        "int", 1000, "the largest number of events in a batch. A task holds up to two batches", validate.Range(1, 10000)
    )
    most_waiting: int = setting(
        "int", 2_000_000, "if so many events wait in the journal, the collector refuses more", POSITIVE
    )
    claim_idle: float = setting(
        "float",
        35.0,
        "time after which the events of a dead worker are taken over; must be above the task's limit of 30 s",
        POSITIVE,
    )
    stats_time_limit: float = setting("float", 20.0, "the longest time that a report may take", POSITIVE)
    most_fresh: int = setting(
        "int",
        50_000,
        "the largest number of raw events that a report reads in addition to segments, and at most 32 MB of"
        " them; if there are more, the report has `as_of`",
        POSITIVE,
    )
    geoip_db: str = setting(
        "str",
        "",
        "a file in MaxMind's format, for countries, regions and cities; if unset, Footfall derives no places from"
        " addresses",
    )
    spam_referrers: str = setting(
        "str",
        "",
        "a file with a spam host in each line; visits from these hosts are dropped, in addition to the known ones",
    )
    data_dir: str = setting("str", "var", "folder in which `make run` keeps the data of the servers that it starts")
    segment_dir: str = setting(
        "str", "", "folder for this machine's copies of segments; if unset, `segments` in `DATA_DIR`"
    )
    segment_disk: int = setting("int", 4_000_000_000, "bytes on disk for the copies of segments", POSITIVE)
    segment_storage: str = setting(
        "str",
        "",
        "folder that all hosts share, or S3-compatible storage, for the files of segments"
        " ([scaling.md](scaling.md#segments-outside-mongodb)); if unset, MongoDB holds them",
        is_file_storage,
        secret=True,
    )
    archive: str = setting(
        "str",
        "",
        "folder, or S3-compatible storage, in which each past day of each site is kept as a Parquet file"
        " ([backup.md](backup.md#archive)); if unset, there is no archive",
        is_file_storage,
        secret=True,
    )
    archive_days: int = setting(
        "int", 0, "for how many days a file of the archive is kept; 0: as long as its events", validate.Range(min=0)
    )
    duckdb_memory: str = setting(
        "str",
        "1GB",
        "memory of DuckDB in one process that builds segments; data beyond it is written to `SEGMENT_DIR`",
        MEMORY,
    )
    report_memory: str = setting(
        "str",
        "192MB",
        "memory of DuckDB in one process of the reporting app; the process takes up to 600 MB in all",
        MEMORY,
    )
    duckdb_threads: int = setting(
        "int", 2, "threads of DuckDB in one process that builds segments or answers reports", POSITIVE
    )
    public_url: str = setting(
        "str",
        "",
        "address of the reporting app as people reach it, such as https://stats.example.com; notifications link to it."
        " If unset, they have no links",
        is_web_url,
    )
    default_language: str = setting(
        "str",
        ENGLISH,
        "language of pages if the browser asks for no other language that Footfall speaks, and of notifications whose"
        " rule and account have none; see [dashboard](dashboard.md)",
        validate.OneOf(list(LANGUAGES)),
    )
    smtp_url: str = setting(
        "str",
        "",
        "server that sends e-mail, as `smtp://user:password@host:port`, or `smtps://` for TLS from the start; the port"
        " is 25, 587 with a user, or 465 with `smtps`. If unset, notifications go to webhooks only",
        is_smtp_url,
        secret=True,
    )
    mail_from: str = setting(
        "str", "", "sender of e-mails, such as `Footfall <footfall@example.com>`; needed with `SMTP_URL`", is_sender
    )
    log_level: str = setting("str", "INFO", "`DEBUG`, `INFO`, `WARNING` or `ERROR`", LEVELS)
    log_format: str = setting("str", "auto", "`json`, `console`, or `auto`: console on a terminal, else json", _FORMATS)
    prometheus_multiproc_dir: str = setting(
        "str",
        "",
        "folder in which each service creates a folder, where its processes share their metrics; if unset, the"
        " system's temporary folder",
    )
    starts: InitVar[frozenset[str]] = frozenset()  # not a setting: which of "redis" and "mongodb" have no address set

    def __post_init__(self, starts: frozenset[str]) -> None:
        object.__setattr__(self, "_starts", starts)

    @property
    def starts_redis(self) -> bool:
        """Whether `make run` starts Redis, because no address is set."""
        return "redis" in self._starts  # type: ignore[attr-defined]

    @property
    def starts_mongodb(self) -> bool:
        """Whether `make run` starts MongoDB, because no address is set."""
        return "mongodb" in self._starts  # type: ignore[attr-defined]

    @property
    def is_production(self) -> bool:
        return self.app_env == "production"

    @property
    def on_loopback(self) -> bool:
        """Whether only this machine can reach the reporting app and Flower."""
        return ip_address(self.published_on or self.bind_host).is_loopback

    @property
    def reached_at(self) -> str:
        """The host at which this machine reaches what listens on BIND_HOST, as it stands in a URL."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.bind_host, self.bind_host)
        return f"[{host}]" if ":" in host else host

    @property
    def reports_are_open(self) -> bool:
        """Whether reports need no key: only in development, and only if no other machine can reach them."""
        return not (self.report_key or self.is_production) and self.on_loopback

    @property
    def rate_limits(self) -> dict[str, str]:
        """The limits by what is limited, such as `1000/minute`. "" if there is no limit."""
        given = {name: getattr(self, f"rate_limit_{name}") for name in PRODUCTION_RATES}
        auto = PRODUCTION_RATES if self.is_production else {}
        return {
            name: auto.get(name, "") if rate == "auto" else "" if rate == "none" else rate
            for name, rate in given.items()
        }

    @property
    def replicas(self) -> int:
        """The number of replicas that must confirm a write before it counts."""
        return self.redis_replicas if self.redis_sentinels else 0

    @property
    def segment_folder(self) -> Path:
        return Path(self.segment_dir or Path(self.data_dir) / "segments").absolute()

    @property
    def flower_logins(self) -> list[str]:
        """Each login as user:password."""
        return self.flower_basic_auth.split(",") if self.flower_basic_auth else []

    @property
    def journals(self) -> list[FurtherJournal]:
        """The journals beside that of `REDIS_URL`."""
        return read_journals(self.journal_urls)

    @property
    def sentinels(self) -> list[tuple[str, int]]:
        return read_addresses(self.redis_sentinels)

    @property
    def sentinel_options(self) -> dict[str, Any]:
        """Options for a connection to a sentinel.

        Sentinels are asked one after the other, so all together have the time limit of Redis.
        """
        patience = self.redis_timeout / max(len(self.sentinels), 1)
        return {"socket_timeout": patience, "socket_connect_timeout": patience, "retry": None, "protocol": 2}

    def as_environment(self) -> dict[str, str]:
        """The same settings as environment variables, for child processes."""
        return {f.name.upper(): str(getattr(self, f.name)) for f in fields(self)}


def load_settings(*, with_flower: bool = False) -> Settings:
    """Reads the settings from the environment and `.env`. Raises SettingsError.

    `with_flower`: for a process that starts Flower, which needs a password in production.
    """
    given, file = _given()
    values: dict[str, Any] = {}
    wrong: dict[str, str] = {}
    for f in fields(Settings):
        if f.name in given:
            try:
                values[f.name] = _read(given[f.name], f.metadata["kind"], f.metadata["rule"])
            except ValidationError as error:
                wrong[f.name] = _sentence(f, given[f.name], error, file)
    settings = Settings(**_with_addresses(values))
    problems = [*wrong.values(), *_conflicts(settings, wrong.keys())]
    if settings.is_production:
        problems += _missing(settings, wrong.keys(), with_flower)
    if problems:
        raise SettingsError("; ".join(problems))
    return settings


def load_settings_or_exit(*, with_flower: bool = False) -> Settings:
    """For modules that a server imports at its start: settings that cannot be used end the process with one line."""
    try:
        return load_settings(with_flower=with_flower)
    except SettingsError as error:
        sys.exit(f"footfall: {error}")


def name_warnings(closest: Callable[..., str | None]) -> list[str]:
    """A sentence for each name that looks like a setting and is none, and for each name that `.env` sets twice.

    `closest`: analytics.suggestion.closest. The list is empty if the environment has every setting, as for processes
    that `make run` starts: `make run` has already warned. A name is shown only if it cannot be a piece of a secret.
    """
    known = [f.name.upper() for f in fields(Settings)]
    if all(name in os.environ for name in known):
        return []
    file = read_env_file(os.environ)
    sentences = []
    for name, lines in file.lines.items():
        where = f"line {lines[-1]} of {file.path}"
        if name in known:
            if len(lines) > 1:
                sentences.append(f"{name} is set more than once; {where} counts")
        elif found := closest(name, known):
            sentences.append(f"{name} is not a setting; did you mean {found}? ({where})")
        elif not name.startswith(OF_OTHERS) and name not in file.used:
            shown = name if re.fullmatch("[A-Z][A-Z0-9_]*", name) else "a name"
            sentences.append(f"{shown} is not a setting and is ignored ({where})")
    families = {name.split("_")[0] for name in known}
    for name in sorted(os.environ.keys() - known - file.lines.keys()):
        found = closest(name, known, OUR_NAMES) if name.split("_")[0] in families else None
        if found and not os.environ.get(found):
            sentences.append(f"{name} is not a setting; did you mean {found}? (in the environment)")
    return sentences


def _given() -> tuple[dict[str, str], EnvFile]:
    """The values that are set and not empty, by field name, and the file. Raises SettingsError."""
    try:
        file = read_env_file(os.environ)
    except EnvFileError as error:
        raise SettingsError(str(error)) from None
    names = {f.name: f.name.upper() for f in fields(Settings)}
    found = {name: os.environ.get(upper, file.values.get(upper, "")).strip() for name, upper in names.items()}
    return {name: value for name, value in found.items() if value}, file


def _with_addresses(values: dict[str, Any]) -> dict[str, Any]:
    """Adds the addresses of the stores if they are not set.

    They are the servers of a running `make run`, unless a port is set that `make run` was not configured with.
    Otherwise they are the default host and the set port.
    """
    starts = set()
    if not values.keys() & {"redis_url", "redis_host", "redis_sentinels"}:
        starts.add("redis")
    if "mongodb_uri" not in values:
        starts.add("mongodb")
    redis = f"redis://{values.get('redis_host', '127.0.0.1')}:{values.get('redis_port', 6379)}/0"
    mongodb = f"mongodb://127.0.0.1:{values.get('mongodb_port', 27017)}/footfall?replicaSet=footfall"
    addresses = {"redis_url": redis, "mongodb_uri": mongodb}
    running = find_servers(Path(values.get("data_dir", "var")))
    for name, field_name in (("redis", "redis_url"), ("mongodb", "mongodb_uri")):
        server = running.get(name) if name in starts else None
        if server and values.get(f"{name}_port", server.wanted_port) == server.wanted_port:
            addresses[field_name] = server.url
    return addresses | values | {"starts": frozenset(starts)}


def _read(text: str, kind: str, rule: Callable[[Any], Any] | None) -> Any:
    """The value of a setting. Raises ValidationError."""
    value: Any = text
    if kind != "str":
        try:
            value = int(text) if kind == "int" else float(text)
        except ValueError:
            value = math.nan
        if not (text.isascii() and math.isfinite(value)):
            raise ValidationError("a number")
    if rule:
        rule(value)
    return value


def _sentence(f: Field[Any], text: str, error: ValidationError, file: EnvFile) -> str:
    name, accepted = f.name.upper(), _accepted(f.metadata["kind"], f.metadata["rule"]) or error.messages[0]
    if f.metadata["secret"]:
        return f"{name} must be {accepted}"
    where = "" if name in os.environ else f" in {file.path}"
    return f"{name} must be {accepted}, and is {text[:100]!r}{where}"


def _accepted(kind: str, rule: Callable[[Any], Any] | None) -> str:
    """What a setting accepts. "" if the message of the rule says it."""
    number = {"int": "a whole number", "float": "a number"}.get(kind, "")
    if isinstance(rule, validate.OneOf):
        return f"one of {', '.join(filter(None, rule.choices))}"
    if isinstance(rule, validate.Range):
        least = f"of at least {rule.min}" if rule.min_inclusive else f"above {rule.min}"
        return f"{number} {least}" if rule.max is None else f"{number} from {rule.min} to {rule.max}"
    return number


def _conflicts(settings: Settings, wrong: Set[str]) -> Iterator[str]:
    """Errors about valid values that do not go together."""
    for name, urls in (
        ("REDIS_URL", [settings.redis_url]),
        ("JOURNAL_URLS", [journal.url for journal in settings.journals]),
    ):
        is_plain = all(url.startswith("redis://") for url in urls)
        if name.lower() not in wrong and settings.redis_sentinels and not is_plain:
            yield f"REDIS_SENTINELS needs a {name} that starts with redis://, so without TLS and without a socket"
    if not wrong & {"redis_url", "journal_urls"} and _is_any_twice(settings):
        yield "JOURNAL_URLS must name other servers than REDIS_URL, and each of them once"
    if settings.smtp_url and not settings.mail_from and "mail_from" not in wrong:
        yield "SMTP_URL needs MAIL_FROM, the sender of e-mails"
    if "trusted_proxies" not in wrong and settings.place_headers and not settings.trusted_proxies:
        yield "PLACE_HEADERS needs TRUSTED_PROXIES, because only a trusted proxy's headers are believed"


def _is_any_twice(settings: Settings) -> bool:
    """Whether two journals have the same address. Host names are not resolved (analytics/store_notes.py)."""
    first = urlsplit(settings.redis_url)
    if settings.sentinels:
        first = first._replace(netloc=settings.redis_master_name)
    urls = [first, *(urlsplit(journal.url) for journal in settings.journals)]
    return len({(url.hostname, url.port or 6379, url.path.strip("/") or "0") for url in urls}) < len(urls)


def _missing(settings: Settings, wrong: Set[str], with_flower: bool) -> Iterator[str]:
    """Secrets that production lacks. Without ADMIN_KEY no API key can be created."""
    empty = [f.name for f in fields(Settings) if not getattr(settings, f.name) and f.name not in wrong]
    missing = [name for name in PRODUCTION if name.lower() in empty]
    if FLOWER_LOGINS.lower() in empty and (with_flower or missing):
        missing.append(FLOWER_LOGINS + (", as user:password" if with_flower else " (Flower, as user:password)"))
    if missing:
        yield f"APP_ENV=production needs {'; '.join(missing)}"
