"""docs/migrating.md: each command of Footfall that it shows, on a running system."""

import gzip
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import httpx
import psutil

from tests.analytics.imports.conftest import SAMPLES
from tests.analytics.imports.test_plausible_export import zipped
from tests.support.running_system import ROOT, System, own_environment, wait_for

PAGE = (ROOT / "docs" / "migrating.md").read_text(encoding="utf-8")
PYTHON = ".venv/bin/python -m footfall "
# The names that the page uses, and the samples that have them here.
FILES = {
    "access.log": "access.log", "website_event.csv": "umami_website_event.csv", "session.csv": "umami_session.csv",
    "event_data.csv": "umami_event_data.csv",
    "visits-0.json": "matomo.json", "goatcounter.csv": "goatcounter.csv", "segment.jsonl": "segment.jsonl",
    "posthog.jsonl": "posthog.jsonl", "ga4.jsonl": "ga4.jsonl",
}  # fmt: skip
LINE = '203.0.113.{} - - [02/Nov/2026:09:00:00 +0000] "GET /{} HTTP/1.1" 200 9 "-" "Mozilla/5.0 (X11; Linux x86_64)"\n'


def totals(system: System, site: str) -> list[int]:
    body = {"site_id": site, "metrics": ["visitors", "visits", "pageviews", "events"], "date_range": "all"}
    answer = httpx.post(f"{system.report}/api/v2/query", json=body, timeout=30)
    assert answer.status_code == 200, answer.text
    found: list[int] = answer.json()["results"][0]["metrics"]
    return found


def stored(system: System) -> int:
    with system.database() as database:
        return database["events"].count_documents({})


def drain(system: System) -> None:
    wait_for(lambda: system.redis().xlen("footfall:journal") == 0, "an empty journal", 60)


def prepare(folder: Path) -> None:
    for name, sample in FILES.items():
        (folder / name).write_bytes((SAMPLES / sample).read_bytes())
    zipped(folder / "plausible.zip")
    (folder / "access.log.1.gz").write_bytes(gzip.compress(LINE.format(9, "old").encode()))
    (folder / "visits-1000.json").write_text((SAMPLES / "matomo.json").read_text().replace('"201"', '"203"'))


def test_each_command_of_the_page_works(system: System, tmp_path: Path):
    prepare(tmp_path)
    lines = [line.strip() for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines()]
    commands = [shlex.split(line.removeprefix(PYTHON), comments=True) for line in lines if line.startswith(PYTHON)]
    assert len(commands) > 10
    imported = ""
    for words in sorted(commands, key=lambda words: "remove" in words):  # the others need events
        if "shop.ndjson" in words:
            drain(system)
            made = system.run_footfall("keys", "create", "me", "--scope", "stats:persons", "--site", "shop")
            bearer = {"Authorization": f"Bearer {made.stdout.strip()}"}
            answer = httpx.get(f"{system.report}/export/events?site_id=shop", headers=bearer)
            (tmp_path / "shop.ndjson").write_bytes(answer.content)
        given = [imported if word == "0123456789ab" else word for word in words]
        given = [str(tmp_path / word) if (tmp_path / word).exists() else word for word in given]
        ran = system.run_footfall(*given)
        assert ran.returncode == 0, (words, ran.stdout, ran.stderr)
        if found := re.search(r"imports remove (\w+)", ran.stdout):
            imported = found[1]
            drain(system)
    assert totals(system, "shop")[3] > 20
    body = {
        "site_id": "shop", "metrics": ["visitors"], "date_range": ["2025-01-01", "2025-01-31"],
        "include": {"imports": True},
    }  # fmt: skip
    assert httpx.post(f"{system.report}/api/v2/query", json=body, timeout=30).json()["results"][0]["metrics"] == [9]
    assert system.run_footfall("audit").returncode == 0


def test_an_import_that_is_killed_continues_and_the_ledger_is_correct(system: System, tmp_path: Path):
    log = tmp_path / "large.log"
    with log.open("w") as file:
        file.writelines(LINE.format(n % 250, n) for n in range(60_000))
    assert system.run_footfall("sites", "set", "killed", "timezone=UTC").returncode == 0
    before = stored(system)
    command = [sys.executable, "-m", "footfall", "import", str(log), "--site", "killed"]
    environment = own_environment() | system.environment
    environment |= {"REDIS_URL": system.redis_url, "MONGODB_URI": system.mongodb_uri, "PYTHONPATH": str(ROOT)}
    for more in (2000, 10_000):
        seen = stored(system)
        with (tmp_path / "output").open("wb") as output:
            process = psutil.Popen(
                command, env=environment, stdout=output, stderr=output, cwd=os.fspath(system.project)
            )
        wait_for(lambda seen=seen, more=more: stored(system) > seen + more, "imported events", 60)
        process.kill()
        process.wait()
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)
    assert ran.returncode == 0, ran.stderr
    assert "60,000 events were sent to the journal" in ran.stdout
    drain(system)
    assert stored(system) - before == 60_000
    wait_for(lambda: totals(system, "killed") == [250, 250, 60_000, 60_000], "a report about all events", 90)
    audited = system.run_footfall("audit", "--site", "killed")
    assert audited.returncode == 0, audited.stdout
