"""Each command of Footfall that docs/migrating.md, docs/proxies.md, docs/troubleshooting.md, docs/sizing.md and
docs/upgrading.md show, on a running system. Those of docs/backup.md run in tests/system/test_backup_of_a_system.py and
tests/footfall/test_archive_command.py.

The other lines of shell are checked as far as this machine can run them: each is parsed, curl and psql get their files,
and the names that Docker reads are those of docker-compose.yml.
"""

import gzip
import os
import re
import shlex
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import parse_qs, urlsplit

import httpx
import psutil
import pytest
import yaml

from analytics.aggregates.day_total import DayTotal
from analytics.imports.format import SkippedRow, SourceEvent
from analytics.imports.formats import detect
from analytics.imports.source import source_files
from analytics.imports.umami import UMAMI_TABLES
from config.env_file import read_env_file
from footfall.embedded_servers import pick_port
from tests.analytics.imports.conftest import SAMPLES
from tests.analytics.imports.test_plausible_export import zipped
from tests.support.browser import Listener, Pages, Quiet
from tests.support.running_system import ROOT, System, own_environment, wait_for
from tests.system.test_backup_of_a_system import commands_of

PAGE = (ROOT / "docs" / "migrating.md").read_text(encoding="utf-8")
PYTHON = ".venv/bin/python -m footfall "
EXPORTED = "plausible-files"  # the folder that the page writes
# The names that the page uses, and the samples that have them here.
FILES = {
    "access.log": "access.log", "website_event.csv": "umami_website_event.csv", "session.csv": "umami_session.csv",
    "event_data.csv": "umami_event_data.csv",
    "visits-0.json": "matomo.json", "goatcounter.csv": "goatcounter.csv", "segment.jsonl": "segment.jsonl",
    "posthog.jsonl": "posthog.jsonl",
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
    ga4 = gzip.compress((SAMPLES / "ga4.jsonl").read_bytes())
    (folder / "events_20261102-000000000000.jsonl.gz").write_bytes(ga4)
    (folder / "access.log.1.gz").write_bytes(gzip.compress(LINE.format(9, "old").encode()))
    (folder / "visits-1000.json").write_text((SAMPLES / "matomo.json").read_text().replace('"201"', '"203"'))


def run_shell(program: str, lines: str, folder: Path, **variables: str) -> None:
    """Run lines of the docs in this folder, as a shell does. They need the program."""
    if not shutil.which(program):
        pytest.skip(f"{program} is not installed")
    subprocess.run(["sh", "-ec", lines], cwd=folder, env=os.environ | variables, check=True, timeout=60)


def block_with(word: str) -> str:
    """The block of shell in the page that has this word."""
    (found,) = (block for block in re.findall(r"(?ms)^ *```sh\n(.*?)^ *```", PAGE) if word in block)
    return textwrap.dedent(found)


def expanded(word: str, folder: Path) -> list[str]:
    """The files in the folder that a word of a command means, or the word itself."""
    return sorted(map(str, folder.glob(word))) if re.fullmatch(r"[\w.*-]+", word) and [*folder.glob(word)] else [word]


def test_each_command_of_migrating_works(system: System, tmp_path: Path):
    prepare(tmp_path)
    lines = [line.strip() for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines()]
    commands = [shlex.split(line.removeprefix(PYTHON), comments=True) for line in lines if line.startswith(PYTHON)]
    assert len(commands) > 10
    imported = ""
    with Pages(system.ingest, "shop") as pages:
        pages.script, pages.names_site = "/js/script.js", "data-domain"
        for words in sorted(commands, key=lambda words: "remove" in words):  # the others need events
            if "shop.ndjson" in words:
                drain(system)
                (line,) = (line for line in lines if "/export/events" in line)
                line = line.replace("http://localhost:3001", system.report)
                run_shell("curl", line, tmp_path, FOOTFALL_KEY=key_of(system, "stats:persons"))
            changes = {"0123456789ab": imported, "https://shop.example/": f"{pages.origin}/"}
            changes[EXPORTED] = str(tmp_path / EXPORTED)
            given = [each for word in words for each in expanded(changes.get(word, word), tmp_path)]
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


def key_of(system: System, scope: str) -> str:
    made = system.run_footfall("keys", "create", "me", "--scope", scope, "--site", "shop")
    assert made.returncode == 0, made.stderr
    return made.stdout.strip()


def test_daily_totals_for_plausible_are_those_of_the_events(system: System, tmp_path: Path):
    """The files that the page makes for Plausible, imported into another site."""
    assert system.run_footfall("sites", "set", "shop", "timezone=UTC", "domains=").returncode == 0
    samples = [str(SAMPLES / f"umami_{name}.csv") for name in ("website_event", "session")]
    assert system.run_footfall("import", *samples, "--site", "shop").returncode == 0
    drain(system)
    words = shlex.split(block_with("footfall export").strip().removeprefix(PYTHON))
    ran = system.run_footfall(*(str(tmp_path) if word == EXPORTED else word for word in words))
    assert ran.returncode == 0, ran.stderr
    files = [*tmp_path.glob("imported_*_????????_????????.csv")]
    assert len(files) == 10
    assert system.run_footfall("sites", "set", "back", "timezone=UTC").returncode == 0
    ran = system.run_footfall("import", *map(str, files), "--site", "back")
    assert ran.returncode == 0, ran.stderr
    answers = []
    for site in ("shop", "back"):
        body = {
            "site_id": site, "metrics": ["visitors", "visits", "pageviews", "bounce_rate", "visit_duration"],
            "date_range": ["2026-01-01", "2026-11-30"], "dimensions": ["time:day"], "include": {"imports": True},
        }  # fmt: skip
        answers.append(httpx.post(f"{system.report}/api/v2/query", json=body, timeout=30).json()["results"])
    assert len(answers[0]) > 1
    assert answers[1] == answers[0]


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
        peak = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{process.pid}/status").read_text())
        assert peak
        assert int(peak[1]) < 300_000
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


@contextmanager
def postgresql() -> Iterator[str]:
    """The URL of a PostgreSQL server with an empty database."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not found and "CI" not in os.environ:
        pytest.skip("apt-get install postgresql")
    programs, port = found[-1].parent, pick_port(0)
    as_other = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"] if os.geteuid() == 0 else []

    def run(program: str, *words: str) -> None:
        command = [*as_other, str(programs / program), "-D", f"{folder}/data", *words]
        subprocess.run(command, check=True, timeout=60, stdout=subprocess.DEVNULL, cwd="/")

    with TemporaryDirectory(prefix="footfall-", dir="/tmp") as folder:  # PostgreSQL does not run as root
        if as_other:
            shutil.chown(folder, "postgres")
        run("initdb", "--auth=trust", "--username=umami")
        options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 -c fsync=off"
        run("pg_ctl", "-w", "-l", f"{folder}/log", "-o", options, "start")
        try:
            yield f"postgresql://umami@127.0.0.1:{port}/postgres"
        finally:
            run("pg_ctl", "-m", "immediate", "stop")


def make_umami_table(url: str, table: str, sample: Path) -> None:
    """Make one of Umami's tables, with the rows of the sample."""
    kinds = {
        "created_at": "timestamptz",
        "event_type": "integer",
        "data_type": "integer",
        "number_value": "decimal(19,4)",
    }
    names = sample.read_text().splitlines()[0].split(",")
    columns = ", ".join(f"{name} {kinds.get(name, 'text')}" for name in names)
    make, fill = f"CREATE TABLE {table} ({columns})", rf"\copy {table} FROM {sample} CSV HEADER"
    subprocess.run(["psql", url, "-q", "-v", "ON_ERROR_STOP=1", "-c", make, "-c", fill], check=True, timeout=60)


def umami_events(files: Iterable[Path]) -> list[SourceEvent | SkippedRow | DayTotal]:
    found = (each for row in UMAMI_TABLES.read(source_files(files)) for each in UMAMI_TABLES.translate(row))
    return sorted(found, key=repr)


def test_psql_writes_the_tables_that_the_next_command_imports(tmp_path: Path):
    samples = {name: SAMPLES / f"umami_{name}.csv" for name in ("website_event", "session", "event_data")}
    with postgresql() as url:
        for table, sample in samples.items():
            make_umami_table(url, table, sample)
        run_shell("psql", block_with("psql"), tmp_path, UMAMI_DATABASE_URL=url)
    (imported,) = (shlex.split(line) for line in PAGE.splitlines() if PYTHON in line and "session.csv" in line)
    written = [tmp_path / word for word in imported if word.endswith(".csv")]
    assert len(written) == 3
    assert umami_events(written) == umami_events(samples.values())


class Matomo(Quiet, BaseHTTPRequestHandler):
    """Answers with a page of visits, then with another, and then with none."""

    posted: list[tuple[dict[str, str], bytes]]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        asked = {name: value for name, (value,) in parse_qs(urlsplit(self.path).query).items()}
        self.posted.append((asked, body))
        visits = (SAMPLES / "matomo.json").read_bytes()
        self.answer(200, visits if len(self.posted) <= 2 else b"[]")


def test_curl_gets_all_of_matomo_s_visits_and_sends_the_token_in_the_body(tmp_path: Path):
    posted: list[tuple[dict[str, str], bytes]] = []
    with Listener(Matomo, posted=posted) as matomo:
        lines = block_with("Live.getLastVisitsDetails").replace("https://matomo.example", matomo.origin)
        run_shell("curl", lines, tmp_path, MATOMO_TOKEN="secret")
    assert {body for _, body in posted} == {b"token_auth=secret"}
    assert [asked.pop("filter_offset") for asked, _ in posted] == ["0", "1000", "2000"]
    assert posted[0][0] | {"date": ""} == {
        "module": "API", "method": "Live.getLastVisitsDetails", "idSite": "1", "period": "range", "date": "",
        "format": "JSON", "filter_limit": "1000",
    }  # fmt: skip
    written = sorted(tmp_path.glob("visits-*.json"))
    assert [file.name for file in written] == ["visits-0.json", "visits-1000.json"]
    assert detect(source_files(written)).name == "matomo"


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
