"""Each command of Footfall that docs/migrating.md, docs/proxies.md, docs/troubleshooting.md, docs/sizing.md and
docs/upgrading.md show, on a running system. Those of docs/backup.md run in tests/system/test_backup_of_a_system.py and
tests/footfall/test_archive_command.py.

The other lines of shell are checked as far as this machine can run them: each is parsed, curl gets its files, and the
names that psql and Docker read are those of the page and of docker-compose.yml.
"""

import gzip
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
import psutil
import pytest
import yaml

from analytics.imports.formats import detect
from analytics.imports.source import source_files
from config.env_file import read_env_file
from tests.analytics.imports.conftest import SAMPLES
from tests.analytics.imports.test_plausible_export import zipped
from tests.support.receivers import http_server
from tests.support.running_system import ROOT, System, own_environment, wait_for
from tests.system.test_backup_of_a_system import commands_of

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


def run_curl(line: str, folder: Path, **variables: str) -> None:
    """Run a line of the docs in this folder, as a shell does."""
    if not shutil.which("curl"):
        pytest.skip("curl is not installed")
    subprocess.run(["sh", "-ec", line], cwd=folder, env=os.environ | variables, check=True, timeout=60)


def test_each_command_of_migrating_works(system: System, tmp_path: Path):
    prepare(tmp_path)
    lines = [line.strip() for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines()]
    commands = [shlex.split(line.removeprefix(PYTHON), comments=True) for line in lines if line.startswith(PYTHON)]
    assert len(commands) > 10
    imported = ""
    for words in sorted(commands, key=lambda words: "remove" in words):  # the others need events
        if "shop.ndjson" in words:
            drain(system)
            made = system.run_footfall("keys", "create", "me", "--scope", "stats:persons", "--site", "shop")
            (line,) = (line for line in lines if "/export/events" in line)
            line = line.replace("http://localhost:3001", system.report)
            run_curl(line, tmp_path, FOOTFALL_KEY=made.stdout.strip())
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


@pytest.mark.parametrize("page", ["proxies.md", "troubleshooting.md", "sizing.md", "upgrading.md"])
def test_each_command_of_other_pages_works(system: System, page: str):
    shown = re.escape(PYTHON)
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    commands = {*re.findall(rf"`{shown}([^`]+)`", text), *re.findall(rf"(?m)^ *{shown}(.+)$", text)}
    assert commands or page == "sizing.md"
    for command in sorted(commands):
        ran = system.run_footfall(*shlex.split(command))
        assert ran.returncode == 0 or command == "doctor", (command, ran.stdout, ran.stderr)
        assert "Traceback" not in ran.stderr


def test_the_ledger_is_asked_as_troubleshooting_says(system: System):
    event = {"site_id": "shop", "event_type": "pageview", "path": "/"}
    assert httpx.post(f"{system.ingest}/event", json=event, timeout=30).status_code == 200
    key = system.run_footfall("keys", "create", "ledger", "--scope", "stats:read").stdout.strip()
    (line,) = (line for line in commands_of("troubleshooting.md") if "curl" in line)
    program, option, header, url = shlex.split(line.replace("$FOOTFALL_KEY", key))
    assert (program, option) == ("curl", "-H")
    name, _, value = header.partition(": ")
    answer = httpx.get(url.replace("http://localhost:3001", system.report), headers={name: value}, timeout=30)
    assert answer.status_code == 200
    assert {"waiting", "dropped", "dropped_later", "dead"} <= answer.json()["days"][-1].keys()


def test_the_settings_behind_a_proxy_are_written_as_proxies_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    block, end, _ = "\n".join(commands_of("proxies.md")).partition("\nEND\n")
    subprocess.run(["sh", "-e"], input=block + end, cwd=tmp_path, text=True, check=True)
    monkeypatch.chdir(tmp_path)
    assert read_env_file({}).values == {"TRUSTED_PROXIES": "1", "PUBLIC_URL": "https://reports.example"}


@pytest.mark.parametrize("page", sorted(path.name for path in (ROOT / "docs").glob("*.md")))
def test_each_shell_block_can_be_parsed(page: str):
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    for block in re.findall(r"(?ms)^ *```sh\n(.*?)^ *```", text):
        for shell in ("sh", "bash"):
            ran = subprocess.run([shell, "-n"], input=block, capture_output=True, text=True, check=False)
            assert (ran.returncode, ran.stderr) == (0, ""), block


def test_psql_writes_the_files_that_the_next_command_imports():
    lines = [line.strip() for line in PAGE.splitlines()]
    dumps = [shlex.split(line) for line in lines if line.startswith("psql ")]
    assert all(words[:3] == ["psql", "$UMAMI_DATABASE_URL", "-c"] and len(words) == 4 for words in dumps)
    copies = [re.fullmatch(r"\\copy (.+) TO (\S+) CSV HEADER", words[3]) for words in dumps]
    written = {copy[2]: copy[1] for copy in copies if copy}
    assert {*written} == {f"{table}.csv" for table in ("website_event", "session", "event_data")}
    assert all(Path(file).stem in source.split() for file, source in written.items())
    (imported,) = (shlex.split(line) for line in lines if line.startswith(PYTHON) and "session.csv" in line)
    assert {word for word in imported if word.endswith(".csv")} == {*written}


def test_curl_gets_matomo_s_visits_and_sends_the_token_in_the_body(tmp_path: Path):
    (line,) = (line.strip() for line in PAGE.splitlines() if "Live.getLastVisitsDetails" in line and "curl" in line)
    with http_server() as matomo:
        matomo.body = (SAMPLES / "matomo.json").read_bytes()
        line = line.replace("https://matomo.example", f"http://127.0.0.1:{matomo.port}")
        run_curl(line, tmp_path, MATOMO_TOKEN="secret")
        (posted,) = matomo.posted
    assert posted.body == b"token_auth=secret"
    asked = {name: value for name, (value,) in parse_qs(urlsplit(posted.path).query).items()}
    assert asked | {"date": ""} == {
        "module": "API", "method": "Live.getLastVisitsDetails", "idSite": "1", "period": "range", "date": "",
        "format": "JSON", "filter_limit": "1000", "filter_offset": "0",
    }  # fmt: skip
    assert detect(source_files([tmp_path / "visits-0.json"])).name == "matomo"


@pytest.mark.parametrize("page", ["backup.md", "migrating.md", "upgrading.md"])
def test_docker_is_given_services_that_exist(page: str):
    """Docker does not run in tests."""
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))["services"]
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    commands = [*re.findall(r"(?m)^docker compose (.+)$", text), *re.findall(r"`docker compose ([^`]+)`", text)]
    assert commands
    for command in commands:
        action, *words = shlex.split(command)
        assert action in {"run", "exec", "up", "cp"}
        if action in {"run", "exec"}:
            assert words[words.index("python") - 1] in services
        elif action == "up":
            assert {word for word in words if not word.startswith("-")} <= {*services}
