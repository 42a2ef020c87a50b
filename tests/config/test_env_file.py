"""A real `.env` applies to every process: each setting, the whole system, and files that cannot be read."""

import json
import subprocess
import sys
from dataclasses import Field, fields
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from marshmallow import validate

from config import settings as rules
from config.settings import Settings
from footfall.embedded_servers import Server
from tests.support.running_system import ROOT, System, make_project, own_environment, wait_for

NAMES = [f.name.upper() for f in fields(Settings)]
PRINT = (
    "import dataclasses, json; from config.settings import load_settings;"
    " s = load_settings(with_flower=True); print(json.dumps(dataclasses.asdict(s) | {'repr': repr(s)}))"
)
LOGIN = ("me", "a-p4ssword-for-flower")
SAMPLES = {
    rules.is_redis_url: "redis://user:hidden-1@redis.example:6380/3",
    rules.is_mongodb_uri: "mongodb://user:hidden-2@mongodb.example:27018/other",
    rules.MEMORY: "333MiB",
    rules.RATE: "77/minute",
    rules.is_key: "hidden-3-0123456789",
    rules.are_logins: "me:hidden-4,you:hidden-5",
    rules.is_web_url: "https://stats.example.com",
    rules.is_file_storage: "s3://key:hidden-6@bucket/prefix?endpoint_override=s3.example",
    rules.is_smtp_url: "smtp://ann:secret@mail.example.com:587",
    rules.is_sender: "Footfall <footfall@example.com>",
    rules.are_origins: "https://a.example,http://b.example:8080",
    rules.are_journals: "b=redis://user:hidden-7@journal.example:6380/0,-c=redis://c.example:6379/0",
    rules.are_sentinels: "a.example:26379,b.example:26380",
    rules.is_address: "127.0.0.2",
    rules.is_address_or_none: "127.0.0.3",
    None: "another value",
}


def sample_of(f: Field[Any]) -> Any:
    """An accepted value that is not the default."""
    kind, rule = f.metadata["kind"], f.metadata["rule"]
    if isinstance(rule, validate.OneOf):
        return next(choice for choice in reversed(list(rule.choices)) if choice != f.default)
    return SAMPLES[rule] if kind == "str" else {"int": int, "float": float}[kind](f.default + 1)


def outside() -> dict[str, str]:
    """The environment without any setting."""
    return {name: value for name, value in own_environment().items() if name not in NAMES}


def run(project: Path, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *command],
        cwd=project,
        env=outside() | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def load(project: Path, **environment: str) -> dict[str, Any]:
    ran = run(project, "-c", PRINT, **environment)
    assert ran.returncode == 0, ran.stderr
    loaded: dict[str, Any] = json.loads(ran.stdout)
    return loaded


def warnings_of(project: Path, **environment: str) -> list[str]:
    """The warnings of a process in this folder."""
    show = (
        "import json; from analytics.suggestion import closest; from config.settings import name_warnings;"
        " print(json.dumps(name_warnings(closest)))"
    )
    ran = run(project, "-c", show, **environment)
    assert ran.returncode == 0, ran.stderr
    found: list[str] = json.loads(ran.stdout)
    return found


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose .env sets every setting."""
    text = "".join(f"{f.name.upper()}={sample_of(f)}\n" for f in fields(Settings))
    return make_project(tmp_path_factory.mktemp("everything"), text)


@pytest.fixture(scope="module")
def loaded(everything: Path) -> dict[str, Any]:
    return load(everything)


@pytest.mark.parametrize("f", fields(Settings), ids=lambda f: f.name)
def test_every_setting_can_be_set_in_the_file(loaded: dict[str, Any], f: Field[Any]):
    assert loaded[f.name] == sample_of(f) != f.default


def test_no_secret_is_in_the_repr(loaded: dict[str, Any]):
    assert "hidden" not in loaded["repr"]


def test_the_environment_overrides_the_file_even_with_an_empty_value(everything: Path):
    assert load(everything, STORE_BATCH="7", DATA_DIR="elsewhere")["store_batch"] == 7
    hidden = load(everything, **dict.fromkeys(NAMES, ""))
    assert Settings(**{name: value for name, value in hidden.items() if name != "repr"}) == Settings(
        redis_url="redis://127.0.0.1:6379/0"
    )


def test_the_file_of_the_current_folder_overrides_the_file_of_the_project(tmp_path: Path):
    project = tmp_path / "project"
    project.mkdir()
    (project / "config").mkdir()
    for module in (ROOT / "config").glob("*.py"):
        (project / "config" / module.name).write_bytes(module.read_bytes())
    (project / ".env").write_text("STORE_BATCH=5\nMOST_FRESH=5\n")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    path = f"{project}:{ROOT}"  # config from the project, the other packages from here
    assert load(elsewhere, PYTHONPATH=path)["store_batch"] == 5
    (elsewhere / ".env").write_text("STORE_BATCH=6\n")
    found = load(elsewhere, PYTHONPATH=path)
    assert (found["store_batch"], found["most_fresh"]) == (6, Settings.most_fresh)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("DATA_DIR=/a", "/a"),
        ("  DATA_DIR = /a  \n", "/a"),
        ("export DATA_DIR=/a # where it is\n", "/a"),
        ("# DATA_DIR=/b\n\nDATA_DIR='/a # b'\n", "/a # b"),
        ('DATA_DIR="/a b"\n', "/a b"),
        ("DATA_DIR=/a#b\n", "/a#b"),
        ("DATA_DIR=/b\nDATA_DIR=/a\n", "/a"),
        ("DATA_DIR=\n", "var"),
        ('DATA_DIR=""\n', "var"),
        ("BASE=/a\nDATA_DIR=${BASE}/b\n", "/a/b"),
        ("DATA_DIR=${HOMELESS:-/a}/b\n", "/a/b"),
        ("DATA_DIR=${FROM_OUTSIDE}/b\n", "/outside/b"),
        ("DATA_DIR='${HOMELESS}/b'\n", "${HOMELESS}/b"),
        ("DATA_DIR=/a$b\n", "/a$b"),
        ("DATA_DIR\nexport DATA_DIR\n", "var"),
        ("\ufeffDATA_DIR=/a\r\nSTORE_BATCH=5\r\n", "/a"),
        ("DATA_DIR='/a\nb'\n", "/a\nb"),
        ("DATA_DIR=/ä\n", "/ä"),
        ("", "var"),
    ],
)
def test_the_file_is_read_as_compose_reads_it(tmp_path: Path, text: str, found: str):
    assert load(make_project(tmp_path, text), FROM_OUTSIDE="/outside")["data_dir"] == found


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"A=1\n\nSECRET_KEY hidden\n", "line 3 of {path} is not NAME=value"),
        (b"A=1\nSECRET_KEY='hidden\nB=2\n", "line 2 of {path} is not NAME=value, or a quote is not closed"),
        (b"DATA_DIR=hidden${NOT_SET}\n", "line 1 of {path} uses ${{NOT_SET}}, which is not set"),
        (b"SECRET_KEY=hidden\xff\n", "{path} is not UTF-8 text at byte 17; save it as UTF-8"),
        ("DATA_DIR=hidden".encode("utf-16"), "{path} is not UTF-8 text at byte 0; save it as UTF-8"),
        (b"DATA_DIR=hidden\0\n", "{path} has a NUL character"),
        (b"#" * 1_000_001, "{path} is larger than 1,000,000 bytes"),
    ],
)
@pytest.mark.parametrize("module", ["footfall", "footfall.supervisor"])
def test_a_file_that_cannot_be_used_is_reported_in_one_sentence(tmp_path: Path, content: bytes, said: str, module: str):
    project = make_project(tmp_path, content)
    ran = run(project, "-m", module, *(["keys", "list"] if module == "footfall" else []))
    assert ran.returncode == 1
    assert said.format(path=project / ".env") in ran.stderr
    assert (ran.stderr.count("\n"), "hidden" in ran.stderr) == (1, False)


@pytest.mark.parametrize("kind", ["folder", "unreadable", "dangling"])
def test_a_file_that_cannot_be_opened_is_reported_in_one_sentence(tmp_path: Path, kind: str):
    project = make_project(tmp_path, "DATA_DIR=/a")
    (project / ".env").unlink()
    if kind == "folder":  # Docker creates a folder if it mounts a file that does not exist
        (project / ".env").mkdir()
    else:
        (project / ".env").symlink_to("nothing" if kind == "dangling" else "/proc/self/mem")
    ran = run(project, "-m", "footfall", "keys", "list")
    assert ran.returncode == 1
    assert ran.stderr.startswith(f"footfall: {project / '.env'} cannot be read: ")
    assert ran.stderr.count("\n") == 1


def test_all_invalid_values_are_named_at_once_and_no_secret_is_shown(tmp_path: Path):
    lines = ["REDIS_PORT=http", "LOG_LEVEL=LOUD", "STATS_TIME_LIMIT=0", "SECRET_KEY=hidden", "ADMIN_KEY=hidden",
             "REDIS_URL=hidden", "MONGODB_URI=hidden", "FLOWER_BASIC_AUTH=hidden", "REDIS_REPLICAS=-1"]  # fmt: skip
    project = make_project(tmp_path, "\n".join(lines))
    ran = run(project, "-m", "footfall", "keys", "list", STORE_BATCH="1.5")
    assert ran.returncode == 1
    for sentence in (
        f"REDIS_PORT must be a whole number from 1 to 65535, and is 'http' in {project}/.env",
        f"LOG_LEVEL must be one of DEBUG, INFO, WARNING, ERROR, and is 'LOUD' in {project}/.env",
        f"STATS_TIME_LIMIT must be a number above 0, and is '0' in {project}/.env",
        f"REDIS_REPLICAS must be a whole number of at least 0, and is '-1' in {project}/.env",
        "STORE_BATCH must be a whole number from 1 to 10000, and is '1.5'",
        "SECRET_KEY must be at least 16 printable ASCII characters",
        "ADMIN_KEY must be at least 16 printable ASCII characters",
        "REDIS_URL must be a Redis URL, such as redis://",
        "MONGODB_URI must be a MongoDB URI, such as mongodb://",
        "FLOWER_BASIC_AUTH must be user:password",
    ):
        assert sentence in ran.stderr
    assert (ran.stderr.count("\n"), "hidden" in ran.stderr) == (1, False)


# The whole system


def test_unknown_names_are_reported_with_the_closest_setting(tmp_path: Path):
    text = "RATE_LIMIT_SITES=1/minute\nSTORE_BATCH=5\nSTORE_BATCH=6\nHOST=a\nCOMPOSE_PROJECT_NAME=x\nMY_OWN=1\n"
    text += "s3cret-part=of-a-value\nADMIN_KEY=${MY_OWN}-0123456789abcdef\nFOO=bar\n"
    project = make_project(tmp_path / "project", text)
    path = project / ".env"
    found = warnings_of(project, MONGODB_URL="mongodb://elsewhere/x", EDITOR="vi")
    assert found == [
        f"RATE_LIMIT_SITES is not a setting; did you mean RATE_LIMIT_SITE? (line 1 of {path})",
        f"STORE_BATCH is set more than once; line 3 of {path} counts",
        f"HOST is not a setting and is ignored (line 4 of {path})",
        f"a name is not a setting and is ignored (line 7 of {path})",
        f"FOO is not a setting and is ignored (line 9 of {path})",
        "MONGODB_URL is not a setting; did you mean MONGODB_URI? (in the environment)",
    ]
    assert "s3cret" not in " ".join(found)


def test_a_name_that_resembles_a_setting_is_not_reported_if_that_setting_is_set_too(tmp_path: Path):
    project = make_project(tmp_path, "")
    others = {"MONGODB_URL": "x", "MONGODB_URI": "mongodb://a/b", "REDIS_SERVICE_HOST": "a", "SECRET_KEY_BASE": "x"}
    assert warnings_of(project, **others) == []


def test_the_doctor_reports_an_unknown_name(tmp_path: Path):
    project = make_project(tmp_path, "redis_uri=redis://hidden\n")
    away = {"REDIS_PORT": "1", "MONGODB_PORT": "1"}
    doctor = run(project, "-m", "footfall", "doctor", "--json", **away)
    (finding,) = (check for check in json.loads(doctor.stdout)["checks"] if check["check"] == "settings names")
    sentence = f"redis_uri is not a setting; did you mean REDIS_URL? (line 1 of {project / '.env'})."
    assert (finding["state"], finding["what"]) == ("warning", sentence)
    assert "hidden" not in doctor.stdout


def test_beat_reports_an_unknown_name_if_it_runs_without_a_supervisor(tmp_path: Path, redis_running: Server):
    project = make_project(tmp_path, f"REDIS_URL={redis_running.url}\nRATE_LIMIT_SITES=5/minute\n")
    log = tmp_path / "beat.log"
    with log.open("wb") as output:
        beat = subprocess.Popen(
            [sys.executable, "-m", "celery", "--quiet", "--app", "tasks", "beat"],
            cwd=project,
            env=outside(),
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        wait_for(lambda: "did you mean RATE_LIMIT_SITE?" in log.read_text(), "the warning")
    finally:
        beat.kill()
        beat.wait()


def test_make_run_reports_an_unknown_name_once_for_all_processes(tmp_path: Path):
    system = unmasked(tmp_path, make_project(tmp_path / "project", "RATE_LIMIT_SITES=1/minute\n"))
    try:
        system.start()
        assert system.output().count("RATE_LIMIT_SITES is not a setting; did you mean RATE_LIMIT_SITE?") == 1
    finally:
        system.kill()


def unmasked(folder: Path, project: Path) -> System:
    """`make run` with only its ports and folder in the environment."""
    system = System(folder, project=project)
    for name in ("MONGODB_URI", "REDIS_URL", "REDIS_HOST", "REDIS_SENTINELS"):
        del system.environment[name]
    return system


def flower_answers(system: System, **how: Any) -> int:
    return httpx.get(f"{system.flower}/workers", timeout=10, **how).status_code


def arguments(system: System) -> str:
    with_children = [system.process, *system.process.children(recursive=True)]
    return "\n".join(" ".join(process.cmdline()) for process in with_children if psutil.pid_exists(process.pid))


def test_make_run_starts_with_the_production_file_that_the_docs_show(tmp_path: Path):
    shown = (ROOT / "docs" / "operating.md").read_text().split("```sh\n", 1)[1]
    writes_the_file = shown[: shown.index("chmod 600 .env")] + "chmod 600 .env\n"
    project = make_project(tmp_path / "project", "")
    subprocess.run(["sh", "-e"], input=writes_the_file, cwd=project, text=True, check=True)
    assert (project / ".env").stat().st_mode & 0o777 == 0o600
    secrets = dict(line.split("=", 1) for line in (project / ".env").read_text().splitlines())
    system = unmasked(tmp_path, project)
    try:
        system.start()
        assert flower_answers(system) == 401
        assert flower_answers(system, auth=tuple(secrets["FLOWER_BASIC_AUTH"].split(":"))) == 200
        asked = {"headers": {"Authorization": f"Bearer {secrets['ADMIN_KEY']}"}, "timeout": 10}
        assert httpx.get(f"{system.report}/admin/sites", **asked).status_code == 200
        assert httpx.get(f"{system.report}/admin/sites", timeout=10).status_code == 401
        for secret in (secrets["SECRET_KEY"], secrets["ADMIN_KEY"], secrets["FLOWER_BASIC_AUTH"].split(":")[1]):
            assert secret not in system.output() + arguments(system)
    finally:
        system.kill()


def test_every_process_uses_the_stores_and_the_login_for_flower_from_the_file(
    tmp_path: Path, redis_running: Server, mongo_running: Server
):
    uri = mongo_running.url.replace("/footfall?", "/from_env_file?")
    shared = tmp_path / "metrics"
    text = f"""
        export REDIS_URL="{redis_running.url.replace("/0", "/5")}"
        MONGODB_URI='{uri}'
        FLOWER_BASIC_AUTH={":".join(LOGIN)}
        PROMETHEUS_MULTIPROC_DIR={shared}
        ADMIN_KEY=an-admin-key-for-tests
    """
    system = unmasked(tmp_path, make_project(tmp_path / "project", text))
    system.mongodb_uri = uri
    try:
        system.start()
        assert system.part("redis-server") == system.part("mongod") == []
        assert not (tmp_path / "var" / "redis").exists()
        assert flower_answers(system) == 401
        assert flower_answers(system, auth=("me", "wrong")) == 401
        assert flower_answers(system, auth=LOGIN) == 200
        assert LOGIN[1] not in arguments(system) + system.output()
        event = {"site_id": "shop", "event_type": "pageview", "path": "/"}
        assert httpx.post(f"{system.ingest}/event", json=event, timeout=10).status_code == 200
        with system.database() as database:
            wait_for(lambda: database["events"].count_documents({"site_id": "shop"}) == 1, "the event")
        cli = run(system.project, "-m", "footfall", "sites", "set", "shop", "timezone=Europe/Berlin")
        assert cli.returncode == 0, cli.stderr
        with system.database() as database:
            assert database["sites"].count_documents({}) == 1
        asked = {"headers": {"Authorization": "Bearer an-admin-key-for-tests"}, "timeout": 10}
        pages = [httpx.get(f"{at}/metrics", **asked).text for at in (system.ingest, system.report)]
        assert ['outcome="accepted"' in page for page in pages] == [True, False]
        assert len(list(shared.rglob("footfall-metrics-*"))) >= 3  # ingest, report, worker: none counts for another
    finally:
        system.kill()
        with system.database() as database:
            database.client.drop_database("from_env_file")
