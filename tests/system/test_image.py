"""The image of the Dockerfile, without a Docker engine: its steps run in a bare Debian, and so do its processes.

The first run builds the image, which takes minutes. It is built again if Dockerfile or requirements.txt change.
"""

import os
import shlex
import shutil
import subprocess
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from footfall.embedded_servers import mongo_server, pick_port, redis_server
from tests.support.bare_debian import ROOT, Image, build_image, in_folder, read_image
from tests.support.running_system import pick_ports, running, running_alone, wait_for

PROCFILE = dict(line.split(": ", 1) for line in (ROOT / "Procfile").read_text().splitlines())
SECRETS = {
    "SECRET_KEY": "a-secret-for-tests-only",
    "ADMIN_KEY": "an-admin-key-for-tests",
    "FLOWER_BASIC_AUTH": "me:g3heim",
}


def test_the_dockerfile_is_understood(tmp_path: Path):
    image, _ = read_image()
    image.apply(tmp_path, cached=True)
    assert (image.user, image.directory) == ("footfall", "/app")
    assert image.environment["DATA_DIR"] == "/var/lib/footfall"
    assert " ".join(image.command) == PROCFILE["ingest"]
    assert (tmp_path / "app/tasks/app.py").read_bytes() == (ROOT / "tasks/app.py").read_bytes()
    assert (tmp_path / "app/requirements.txt").exists()
    assert not (tmp_path / "app/tests").exists()


@pytest.mark.parametrize("text", ["FROM debian:13\n", "FROM python:3.12\nADD a b\n"])
def test_a_dockerfile_that_is_not_understood_is_refused(text: str):
    with pytest.raises(ValueError, match=r"based on python:|unknown instruction ADD"):
        Image.of(text)


@pytest.fixture(scope="module")
def image() -> tuple[Image, Path]:
    if os.geteuid() or not all(map(shutil.which, ("unshare", "mmdebstrap"))):
        pytest.skip("needs root and mmdebstrap")
    try:
        folder = build_image()
    except subprocess.CalledProcessError as error:
        if error.cmd[0] != "mmdebstrap":
            raise
        pytest.skip("Debian's packages cannot be fetched")
    image, _ = read_image()
    image.apply(folder, cached=True)
    return image, folder


@pytest.mark.timeout(900)  # it may build the image
def test_each_line_of_the_procfile_runs_in_the_image_and_doctor_finds_no_problem(
    image: tuple[Image, Path], tmp_path: Path
):
    made, folder = image
    names = ["INGESTION_PORT", "REPORTING_PORT", "WORKER_METRICS_PORT", "FLOWER_PORT"]
    ports = {name: str(port) for name, port in zip(names, pick_ports(4), strict=True)}
    redis, mongodb = redis_server(tmp_path / "redis", pick_port(0)), mongo_server(tmp_path / "mongodb", pick_port(0))
    environment = made.environment | SECRETS | ports | {"APP_ENV": "production", "LOG_FORMAT": "json"}
    environment |= {"REDIS_URL": redis.url, "MONGODB_URI": mongodb.url}

    def in_image(line: str) -> list[str]:
        return in_folder(folder, line.split(), made.user, made.directory, environment)

    def doctor() -> subprocess.CompletedProcess[str]:
        command = in_image("python -m footfall doctor")
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)

    def is_ready(port: str) -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{ports[port]}/readyz", timeout=5).status_code == 200
        except httpx.TransportError:
            return False

    with running(redis), running(mongodb), ExitStack() as until_stopped:
        for name, line in PROCFILE.items():
            log = tmp_path / f"{name}.log"
            until_stopped.enter_context(running_alone(shlex.join(in_image(line)), log))
        wait_for(lambda: is_ready("INGESTION_PORT") and is_ready("REPORTING_PORT"), "the apps", 60)
        wait_for(lambda: doctor().returncode == 0, "a doctor that finds no problem", 90)
        assert "Problems: 0, " in doctor().stdout
