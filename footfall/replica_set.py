"""The replica set of the mongod that `make run` starts: a set of one member. Callers must handle StartError.

`python -m footfall.replica_set PORT` ends with 0 if the member takes writes. It is a process of its own, so that the
supervisor does not keep pymongo in memory.
"""

import subprocess
import sys
import time
from contextlib import suppress
from typing import Any

from pymongo import MongoClient
from pymongo.collection import Collection
from pymongo.errors import OperationFailure, PyMongoError, ServerSelectionTimeoutError

from footfall.embedded_servers import REPLICA_SET, START_LIMIT
from footfall.start_error import StartError

NOT_YET_INITIATED = 94
_PATIENCE = 2.0  # seconds


def lead(port: int) -> None:
    """Returns when the member takes writes. Initiates the set if the member is new. Raises StartError after 2 s."""
    end = time.monotonic() + _PATIENCE
    while not _is_primary(f"127.0.0.1:{port}"):
        if time.monotonic() > end:
            raise StartError("MongoDB takes no writes yet")
        time.sleep(0.05)


def _is_primary(member: str) -> bool:
    client: MongoClient[dict[str, Any]]
    with MongoClient(member, directConnection=True, serverSelectionTimeoutMS=500) as client:
        try:
            if client.admin.command("hello").get("isWritablePrimary"):
                return True
            client.admin.command("replSetGetStatus")
        except OperationFailure as error:
            if error.code == NOT_YET_INITIATED:
                client.admin.command("replSetInitiate", {"_id": REPLICA_SET, "members": [{"_id": 0, "host": member}]})
        except PyMongoError:
            pass  # still starting
    return False


def rewrite_port(process: subprocess.Popen[bytes], port: int) -> None:
    """Writes the port into the set's configuration. `process`: the mongod, which runs without the set."""
    client: MongoClient[dict[str, Any]]
    end = time.monotonic() + START_LIMIT
    with MongoClient("127.0.0.1", port, directConnection=True, serverSelectionTimeoutMS=500) as client:
        configs: Collection[dict[str, Any]] = client["local"]["system.replset"]
        while process.poll() is None and time.monotonic() < end:
            with suppress(ServerSelectionTimeoutError):
                configs.update_many({}, {"$set": {"members.0.host": f"127.0.0.1:{port}"}})
                return
    raise StartError(f"mongodb did not start on port {port}. See mongod.log in DATA_DIR")


if __name__ == "__main__":
    try:
        lead(int(sys.argv[1]))
    except StartError as error:
        sys.exit(str(error))
