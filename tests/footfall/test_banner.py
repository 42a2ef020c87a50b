"""The commands that `make run` prints work unchanged, in development and in production, set up by a `.env`."""

import json
import re
import subprocess
from dataclasses import fields
from pathlib import Path

import httpx
import pytest

from config.settings import Settings
from tests.support.running_system import ROOT, System, make_project, own_environment, wait_for

NAMES = {f.name.upper() for f in fields(Settings)} | {"FLOWER_BASIC_AUTH"}
PRODUCTION = {
    "APP_ENV": "production",
    "SECRET_KEY": "a-secret-for-tests-only",
    "ADMIN_KEY": "an-admin-key-for-tests",
    "FLOWER_BASIC_AUTH": "me:a-password-for-tests",
}


@pytest.fixture(params=["development", "production"])
def system(request: pytest.FixtureRequest, tmp_path: Path) -> System:
    """A system whose settings are all in the file, including its ports."""
    system = System(tmp_path, **(PRODUCTION if request.param == "production" else {}))
    settings = {name: value for name, value in system.environment.items() if name in NAMES and value}
    project = make_project(tmp_path / "project", "".join(f"{name}={value}\n" for name, value in settings.items()))
    (project / ".venv").symlink_to(ROOT / ".venv")
    system.project = project
    system.environment = {name: value for name, value in system.environment.items() if name not in NAMES}
    return system


def test_the_commands_that_make_run_prints_work_one_after_the_other(system: System):
    outside = {name: value for name, value in own_environment().items() if name not in NAMES}
    try:
        system.start()
        banner = system.output().split("Footfall is up.", 1)[1].split("\n", 1)[1]
        commands = [line.strip() for line in re.sub(r"\\\n\s+", "", banner).splitlines() if line.startswith("  ")]
        *first, report = commands
        assert [command.split()[0] for command in (commands[-2], report)] == ["curl", "curl"]
        ran = subprocess.run(
            ["sh", "-e"],
            input="\n".join([*first, "echo KEY=$FOOTFALL_KEY"]),
            cwd=system.project,
            env=outside,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert ran.returncode == 0, ran.stderr
        assert '{"success": true, "message": "Event queued successfully"}' in ran.stdout
        key = re.findall("KEY=(.*)", ran.stdout)[0]

        def views() -> int:
            answer = subprocess.check_output(
                ["sh", "-ec", report], env=outside | {"FOOTFALL_KEY": key}, text=True, stderr=subprocess.DEVNULL
            )
            return json.loads(answer)["total_views"]

        wait_for(lambda: views() == 1, "the event in the report", 30)
        (link,) = re.findall(r"^http\S+/join/\S+$", banner, re.MULTILINE)
        assert "You will be an owner" in httpx.get(link).text
        assert system.output().count(link.rpartition("/")[2]) == 1, "no app logs the link"
        (inspect,) = re.findall("terminal.*:  (.*celery.*|.*doctor.*)", banner)
        subprocess.run(["sh", "-ec", inspect], cwd=system.project, env=outside, timeout=60, check=True)
    finally:
        system.kill()
