"""A Redis and a MongoDB with TLS, passwords and users of few rights, as docs/stores.md describes them."""

import json
import re
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from pymongo import MongoClient
from pymongo.errors import OperationFailure, PyMongoError
from redis import Redis
from redis.exceptions import RedisError

from footfall.embedded_servers import REPLICA_SET, Server, mongo_server, pick_port, redis_server
from tests.support.certificates import Authority
from tests.support.programs import program
from tests.support.running_system import ROOT

PAGE = (ROOT / "docs/stores.md").read_text()
PASSWORD = "p@ss/w0rd"
IN_URL = "p%40ss%2Fw0rd"
OPERATOR = "operator"  # a user of Redis with all rights, for what the tests look up


def encrypted_redis(folder: Path, authority: Authority, certificate: Path) -> Server:
    """`url` is that of Footfall's user, and trusts the authority."""
    port = pick_port(0)
    server = redis_server(folder, port)
    (text,) = re.findall(r"```conf\n(.*?)```", PAGE, re.DOTALL)
    for found, put in {
        "tls-port 6379": f"tls-port {port}",
        "/etc/redis/server.pem": str(certificate),
        "/etc/redis/server.key": str(certificate),
        "/etc/redis/authority.pem": str(authority.file),
        ">PASSWORD": f">{PASSWORD}",
    }.items():
        assert found in text
        text = text.replace(found, put)
    configuration = folder / "redis.conf"
    configuration.write_text(f"{text}\nuser {OPERATOR} on >{PASSWORD} ~* &* +@all\n")
    # the redis-server in .venv was built without TLS
    own = server.command[server.command.index("--port") + 2 :]  # without its port
    command = [program("redis-server", "redis-server"), str(configuration), *own]

    def is_ready() -> bool:
        with suppress(RedisError), operator_of(port, authority) as redis:
            return bool(redis.ping())
        return False

    url = f"rediss://footfall:{IN_URL}@localhost:{port}/0?ssl_ca_certs={authority.file}"
    return replace(server, command=command, url=url, is_ready=is_ready)


def operator_of(port: int, authority: Authority) -> Redis:
    return Redis(
        port=port, ssl=True, ssl_ca_certs=str(authority.file), username=OPERATOR, password=PASSWORD, protocol=2
    )


def encrypted_mongod(folder: Path, authority: Authority, certificate: Path) -> Server:
    """`url` is that of Footfall's user, and trusts the authority."""
    port = pick_port(0)
    server = mongo_server(folder, port)
    (text,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    members = folder / "members.key"
    members.write_text("a" * 64)
    members.chmod(0o400)
    for found, put in {
        "port: 27017": f"port: {port}",
        "/etc/mongodb/server.pem": str(certificate),
        "/etc/mongodb/authority.pem": str(authority.file),
        "/etc/mongodb/members.key": str(members),
    }.items():
        assert found in text
        text = text.replace(found, put)
    configuration = folder / "mongod.conf"
    configuration.write_text(text)
    tls = {"tls": True, "tlsCAFile": str(authority.file)}

    def is_ready() -> bool:
        """The first user of a server may be made without signing in, from the server's own machine."""
        with suppress(PyMongoError), _connected(port, **tls) as client:
            if client.admin.command("hello").get("isWritablePrimary"):
                _make_user(client, OPERATOR, ["root"])
                with _connected(port, username=OPERATOR, password=PASSWORD, **tls) as operator:
                    _make_user(operator, "footfall", json.loads(_roles()))
                    _make_user(operator, "nobody", [])
                return True
            member = {"_id": 0, "host": f"localhost:{port}"}
            client.admin.command("replSetInitiate", {"_id": REPLICA_SET, "members": [member]})
        return False

    more = f"replicaSet={REPLICA_SET}&authSource=admin&tls=true&tlsCAFile={authority.file}"
    url = f"mongodb://footfall:{IN_URL}@localhost:{port}/footfall?{more}"
    command = [server.command[0], "--config", str(configuration), *_own_options(server)]
    return replace(server, command=command, url=url, is_ready=is_ready)


def _make_user(client: MongoClient[dict[str, Any]], name: str, roles: list[Any]) -> None:
    with suppress(OperationFailure):  # a second look finds the user there
        client.admin.command("createUser", name, pwd=PASSWORD, roles=roles)


def _roles() -> str:
    (roles,) = re.findall(r"roles: (\[.*?\])\}\)", PAGE, re.DOTALL)
    return str(roles)


def _connected(port: int, **options: Any) -> MongoClient[dict[str, Any]]:
    return MongoClient("localhost", port, directConnection=True, serverSelectionTimeoutMS=1000, **options)


def _own_options(server: Server) -> list[str]:
    """The options of the embedded server that the page leaves out: where its data is, and limits."""
    given = server.command[1:]
    for name in ("--port", "--replSet"):
        at = given.index(name)
        del given[at : at + 2]
    return given
