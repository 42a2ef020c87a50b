"""Runs Schemathesis against a running app, with valid and invalid requests and with all checks.

`python -m tests.support.fuzzing` starts its own system and tests both apps for long. EXAMPLES and SEED change the run.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import httpx

from report_app.site_lookup import SITE_EXAMPLE
from report_app.sites import SITE_SET
from tests.support.running_system import BIN, System, own_environment, wait_for

ROOT = Path(__file__).parents[2]
SETTINGS = {
    "ADMIN_KEY": "an-admin-key-for-fuzzing",
    "REPORT_KEY": "a-report-key-for-fuzzing",
    "REDIS_TIMEOUT": "10",  # other load on this machine must not matter
}
BEARER = {"Authorization": f"Bearer {SETTINGS['ADMIN_KEY']}"}
LETTERS = 100
# A rule and a key, as they are created. No notification leaves this machine.
RULE = {"site_id": SITE_EXAMPLE, "kind": "silence", "channel": "webhook", "target": "http://127.0.0.1/hook"}
KEY = {"name": "Nightly export", "scopes": ["stats:read"], "sites": [SITE_EXAMPLE]}


def tell(system: System) -> dict[str, str]:
    """Creates data to ask about: a site, its events, dead letters, a rule. Returns the settings of the hooks."""
    httpx.put(f"{system.report}/admin/sites/{SITE_EXAMPLE}", headers=BEARER, json=SITE_SET).raise_for_status()
    event = {"site_id": SITE_EXAMPLE, "event_type": "pageview", "path": "/pricing", "user_id": "user-xyz-789"}
    httpx.post(f"{system.ingest}/events", json=[event, event | {"event_type": "signup"}]).raise_for_status()
    with system.redis() as redis:
        for _ in range(LETTERS):
            redis.xadd("footfall:journal", {"event": b"no event"})
    letters = wait_for(lambda: all_letters(system), "the dead letters")
    rules = f"{system.report}/admin/notifications/rules"
    rule = httpx.post(rules, headers=BEARER, json=RULE).raise_for_status().json()
    return {"REPORT": system.report, "LETTERS": ",".join(letters), "RULE_ID": rule["id"]}


def all_letters(system: System) -> list[str] | None:
    found = httpx.get(f"{system.report}/admin/dead-letters?limit=1000", headers=BEARER).json()["dead_letters"]
    return [str(each["id"]) for each in found] if len(found) == LETTERS else None


def fuzz(address: str, folder: Path, examples: int, seed: int, **environment: str) -> subprocess.CompletedProcess[str]:
    """Tests one app. `examples`: requests per operation, in addition to those that the description itself suggests.

    `environment`: settings of the hooks.
    """
    command = [
        *(
            str(BIN / "schemathesis"),
            "--config-file",
            str(ROOT / "tests" / "support" / "schemathesis.toml"),
            "--no-color",
            "run",
        ),
        *(f"{address}/openapi.json", "--checks", "all", "--seed", str(seed), "--max-examples", str(examples)),
        *("-H", f"Authorization: {BEARER['Authorization']}"),
    ]
    environment = own_environment() | {"PYTHONPATH": str(ROOT)} | environment
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def found(done: subprocess.CompletedProcess[str]) -> str:
    """The output, with long lines cut."""
    return "\n".join(line[:300] for line in (done.stdout + done.stderr).splitlines() if line.strip())


def cases(done: subprocess.CompletedProcess[str]) -> int:
    """The number of generated requests, 0 if there were none."""
    said = re.search(r"([0-9,]+) generated", done.stdout)
    return int(said[1].replace(",", "")) if said else 0


def never_done(address: str, folder: Path) -> set[tuple[str, str]]:
    """The described operations whose every request in `folder` was refused."""
    lines = (folder / "answers").read_text(encoding="utf-8").splitlines()
    done = {(method, path) for method, path, status in map(json.loads, lines) if status < 400}
    paths = httpx.get(f"{address}/openapi.json", headers=BEARER).json()["paths"]
    described = {(method.upper(), path) for path, operations in paths.items() for method in operations}
    return described - done - {("GET", "/openapi.json")}


def main() -> int:
    examples, seed = int(os.environ.get("EXAMPLES", "500")), int(os.environ.get("SEED", "1"))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        system = System(folder, **SETTINGS)
        try:
            system.start()
            told = tell(system)
            done = [fuzz(address, folder, examples, seed, **told) for address in (system.ingest, system.report)]
        finally:
            system.kill()
    for each in done:
        print(found(each))
    print(json.dumps({"seed": seed, "examples": examples, "cases": [cases(each) for each in done]}))
    return max(each.returncode for each in done)


if __name__ == "__main__":
    sys.exit(main())
