"""Footfall on the hosts of the test bed: each host runs a supervisor with its own lines of the Procfile.

Two ingestion hosts are behind nginx, and two hosts report. Worker hosts can be added and removed. The stores are a
Redis with a replica and three sentinels, and three mongod, each on a host of its own.
"""

import shutil
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
from pymongo import MongoClient
from pymongo.database import Database
from redis import Redis

from bench.hosts.network import HostsError, Network
from config.clients import make_redis
from config.settings import Settings
from tests.support.clusters import MongoSet, RedisPair, cluster_running
from tests.support.running_system import ROOT, System, make_project, running_alone, wait_for

INGESTION, WORKERS, REPORTS = ("ingest1", "ingest2"), ("worker1", "worker2", "worker3"), ("report1", "report2")
BALANCER = "balancer"
REDIS, SENTINELS = ("redis1", "redis2"), ("sentinel1", "sentinel2", "sentinel3")
MONGODB = ("mongo1", "mongo2", "mongo3")
HOSTS = (*INGESTION, *WORKERS, *REPORTS, BALANCER, *REDIS, *SENTINELS, *MONGODB)
PROGRAMS = {"ingest": ("ingest",), "worker": ("worker", "beat"), "report": ("report",)}  # by the kind of host
ELECTION, DOWN_AFTER = 1.5, 1.0  # seconds; the defaults of MongoDB and Sentinel are 10 and 30
KEY = "the-key-of-the-test-bed"
NGINX = """
user root;
worker_processes 1;
error_log {folder}/error.log;
pid {folder}/pid;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    upstream ingestion {{
        {servers}
        keepalive 64;
    }}
    server {{
        listen {address}:80;
        location / {{
            proxy_pass http://ingestion;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header X-Forwarded-For $remote_addr;
            proxy_set_header X-Forwarded-Proto $scheme;
            proxy_connect_timeout 1s;
            proxy_read_timeout 4s;
        }}
    }}
}}
"""


class Deployment:
    """The whole system. It has what bench/chaos.py asks of a system. `ingest`: the balancer."""

    def __init__(self, network: Network, source: Path = ROOT) -> None:
        self.network = network
        self.hosts = network.hosts
        self.ingest = f"http://{self.hosts[BALANCER].address}"
        self.mongodb = MongoSet(network.folder / "mongodb", ELECTION, self._places(MONGODB))
        self.pair = RedisPair(network.folder / "redis", DOWN_AFTER, places=self._places((*REDIS, *SENTINELS)))
        self.apps: dict[str, System] = {}
        self.running: set[str] = set()  # names of hosts whose apps run
        self._source = source
        self._until_stopped = ExitStack()

    def __enter__(self) -> "Deployment":
        with ExitStack() as stack:
            stack.callback(self._kill)
            for name, cluster in (("mongodb", self.mongodb), ("redis", self.pair)):
                (self.network.folder / name).mkdir()
                stack.enter_context(cluster_running(cluster))
            for name in (*INGESTION, *WORKERS, *REPORTS):
                self.apps[name] = self._system(name)
                self.install(name, self._source)
            self.start(*INGESTION, *WORKERS[:2], *REPORTS)
            self._balance(stack)
            self._until_stopped = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._until_stopped.close()

    def start(self, *names: str) -> None:
        for name in names:
            self.apps[name].launch()
        for name in names:
            self.apps[name].wait_until_up()
            self.running.add(name)

    def stop(self, *names: str) -> None:
        for name in names:
            self.running.discard(name)
            left = self.apps[name].stop(signal.SIGTERM)
            assert left == [], f"{name} left processes behind: {left}"

    def install(self, name: str, source: Path) -> None:
        """The next start of the host runs the checkout `source`."""
        project = self.apps[name].project
        shutil.rmtree(project, ignore_errors=True)
        make_project(project, "", source)
        lines = (source / "Procfile").read_text().splitlines()
        (project / "Procfile").unlink()
        (project / "Procfile").write_text("\n".join(x for x in lines if x.partition(":")[0] in PROGRAMS[_kind(name)]))

    def redis(self) -> Redis:
        return make_redis(Settings(redis_sentinels=self.pair.addresses, redis_url="redis://unused"))

    @contextmanager
    def database(self) -> Iterator[Database[dict[str, Any]]]:
        with MongoClient[dict[str, Any]](self.mongodb.url, tz_aware=True, uuidRepresentation="standard") as client:
            yield client.get_default_database()

    def part(self, words: str) -> list[psutil.Process]:
        """The processes of all app hosts whose command line holds the words."""
        return [process for name in sorted(self.running) for process in self.apps[name].part(words)]

    def is_whole(self) -> bool:
        return self.pair.is_whole() and self.mongodb.is_whole()

    def _places(self, names: tuple[str, ...]) -> list[Any]:
        return [self.hosts[name].place for name in names]

    def _system(self, name: str) -> System:
        host = self.hosts[name]
        settings = {"MONGODB_URI": self.mongodb.url, "REDIS_SENTINELS": self.pair.addresses, "ADMIN_KEY": KEY}
        settings |= {"CLAIM_IDLE": "5", "TRUSTED_PROXIES": "1" if name in INGESTION else "0"}
        return System(host.folder, project=host.folder / "project", place=host.place, **settings)

    def _balance(self, stack: ExitStack) -> None:
        """Starts nginx in front of the ingestion hosts."""
        nginx = shutil.which("nginx", path="/usr/sbin:/usr/bin")
        if not nginx:
            raise HostsError("nginx is missing: apt-get install nginx")
        host = self.hosts[BALANCER]
        addresses = [self.apps[name].ingest.removeprefix("http://") for name in INGESTION]
        servers = "\n        ".join(f"server {address} max_fails=1 fail_timeout=2s;" for address in addresses)
        configuration = host.folder / "nginx.conf"
        configuration.write_text(NGINX.format(folder=host.folder, servers=servers, address=host.address))
        line = f"-c {configuration} -g 'daemon off;' -e {host.folder}/start.log"
        stack.enter_context(running_alone(line, host.folder / "nginx.log", words=(*host.place.words, nginx)))
        wait_for(lambda: answers(f"{self.ingest}/readyz"), "nginx in front of the ingestion hosts")

    def _kill(self) -> None:
        for app in self.apps.values():
            app.kill()


def answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=2).status_code == 200
    except httpx.HTTPError:
        return False


def _kind(name: str) -> str:
    return name.rstrip("123")
