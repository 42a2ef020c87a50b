"""A bare Debian in a folder, and the image of the Dockerfile in it: without a Docker engine. Needs root, mmdebstrap and
the package registries.

`python -m tests.support.bare_debian image` builds the image, which tests/system/test_image.py runs.
`python -m tests.support.bare_debian newcomer bookworm` does in a new Debian what a new user does, as an ordinary user.

A built folder is kept in CACHE, under a name with the digest of what it was built from.
"""

import hashlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tests.support.running_system import ROOT, UP, command_of, pick_ports

CACHE = Path("/var/tmp/footfall-images")  # noqa: S108  it is kept for the next run
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# python:3.12-slim is a Debian with a Python in /usr/local. Debian 13 has Python 3.13.
SUITE_OF_IMAGE = "trixie"
# What README asks for, and what a machine with a user and a clone has anyway.
README_PACKAGES = {
    "bookworm": ("python3-venv", "make", "curl"),
    "trixie": ("python3-venv", "make", "curl", "gcc", "python3-dev"),
}
NEWCOMER = ("git", "ca-certificates", "util-linux")
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")


@dataclass
class Image:
    """What a Dockerfile says: its instructions in order, and the state after the last of them."""

    steps: list[tuple[str, str]]
    environment: dict[str, str] = field(default_factory=lambda: {"PATH": PATH})
    directory: str = "/"
    user: str = "root"
    command: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, dockerfile: str) -> "Image":
        """Raises ValueError for an instruction that this module does not know."""
        lines = "\n".join(line for line in dockerfile.splitlines() if not line.startswith("#")).replace("\\\n", " ")
        image = cls([(line.split(None, 1)[0], line.split(None, 1)[1]) for line in lines.splitlines() if line.strip()])
        if image.steps[0][0] != "FROM" or not image.steps[0][1].startswith("python:"):
            raise ValueError("The image must be based on python:")
        for word, _ in image.steps:
            if word not in ("FROM", "ENV", "WORKDIR", "COPY", "RUN", "USER", "EXPOSE", "CMD"):
                raise ValueError(f"unknown instruction {word}")
        return image

    def apply(self, root: Path, *, cached: bool) -> None:
        """Do what the instructions say, in the folder `root`. `cached`: the commands of RUN have run there before."""
        for word, rest in self.steps:
            if word == "ENV":
                self.environment |= dict(pair.split("=", 1) for pair in shlex.split(rest))
            elif word == "WORKDIR":
                self.directory = rest
                (root / rest.lstrip("/")).mkdir(parents=True, exist_ok=True)
            elif word == "COPY":
                *sources, target = rest.split()
                self._copy(root, sources, target)
            elif word == "RUN" and not cached:
                run_in(root, ["sh", "-c", rest], self.user, self.directory, self.environment | registries())
            elif word == "USER":
                self.user = rest
            elif word == "CMD":
                self.command = json.loads(rest)

    def _copy(self, root: Path, sources: Iterable[str], target: str) -> None:
        for source in sources:
            place = root / self.directory.lstrip("/") / target
            if (ROOT / source).is_dir():
                shutil.rmtree(place, ignore_errors=True)
                shutil.copytree(ROOT / source, place, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(ROOT / source, place / source if place.is_dir() else place)


def read_image() -> tuple[Image, Path]:
    """The image of the Dockerfile, and the folder in which it is or will be built."""
    dockerfile = (ROOT / "Dockerfile").read_text()
    digest = hashlib.sha256((dockerfile + (ROOT / "requirements.txt").read_text()).encode()).hexdigest()
    return Image.of(dockerfile), CACHE / f"image-{digest[:16]}"


def is_built(folder: Path) -> bool:
    return (folder / "built").exists()


def build_image() -> Path:
    """Raises CalledProcessError if a step fails. Two builds at once do not disturb each other."""
    image, folder = read_image()
    if not is_built(folder):
        new = folder.with_name(f"{folder.name}.{os.getpid()}")
        try:
            make_debian(new, SUITE_OF_IMAGE, ("python3", "python3-venv", "ca-certificates"))
            run_in(new, ["python3", "-m", "venv", "/usr/local"])
            image.apply(new, cached=False)
            (new / "built").touch()
            if not is_built(folder):
                shutil.rmtree(folder, ignore_errors=True)
                new.rename(folder)
        finally:
            shutil.rmtree(new, ignore_errors=True)
    return folder


def make_debian(folder: Path, suite: str, packages: Iterable[str]) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    included = f"--include={','.join(packages)}"
    subprocess.run(["mmdebstrap", "--quiet", "--variant=minbase", included, suite, str(folder)], check=True)
    shutil.copy("/etc/resolv.conf", folder / "etc/resolv.conf")
    if CERTIFICATES.exists() and (folder / "etc/ssl/certs").is_dir():
        shutil.copy(CERTIFICATES, folder / str(CERTIFICATES).lstrip("/"))


def in_folder(
    root: Path, command: Iterable[str], user: str = "root", directory: str = "/", environment: Mapping[str, str] = {}
) -> list[str]:
    """The command line that runs a command in a bare Debian. Its mounts and all of its processes end with it."""
    variables = {"PATH": PATH, "HOME": "/tmp"} | environment  # noqa: S108  of the other system
    inner = ["env", "-i", *(f"{name}={value}" for name, value in variables.items()), *command]
    mounts = 'mount -t proc proc "$0/proc" && mount --rbind /dev "$0/dev" && mount -t tmpfs tmpfs "$0/tmp"'
    there = shlex.quote(f"cd {directory} && exec {shlex.join(inner)}")
    script = f'{mounts} && exec chroot --userspec={shlex.quote(user)} "$0" sh -c {there}'
    return ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", script, str(root)]


def run_in(
    root: Path, command: Iterable[str], user: str = "root", directory: str = "/", environment: Mapping[str, str] = {}
) -> None:
    subprocess.run(in_folder(root, command, user, directory, environment), check=True)


def registries() -> dict[str, str]:
    """How this machine's pip and other programs reach the registries."""
    listed = subprocess.run([sys.executable, "-m", "pip", "config", "list"], check=True, capture_output=True, text=True)
    options = [line.partition("=")[::2] for line in listed.stdout.splitlines()]
    settings = {name.rpartition(".")[2]: value.strip("'") for name, value in options}
    reached_by = ("index-url", "trusted-host", "cert", "default-timeout")  # others name folders of this machine
    of_pip = {f"PIP_{x.upper().replace('-', '_')}": settings[x] for x in reached_by if x in settings}
    names = ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
    return of_pip | {name: os.environ[name] for name in names if name in os.environ}


def try_as_newcomer(suite: str, *tests: str) -> None:
    """README's two commands, as an ordinary user: `make run` until it is up, and `make test` or only these tests."""
    folder = CACHE / f"newcomer-{suite}"
    if not is_built(folder):
        make_debian(folder, suite, (*NEWCOMER, *README_PACKAGES[suite]))
        run_in(folder, ["useradd", "--create-home", "newcomer"])
        (folder / "built").touch()
    home = folder / "home/newcomer/footfall"
    shutil.rmtree(home, ignore_errors=True)
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(home)], check=True)
    run_in(folder, ["chown", "-R", "newcomer:", "/home/newcomer"])
    names = ["INGESTION_PORT", "REPORTING_PORT", "WORKER_METRICS_PORT", "FLOWER_PORT"]
    ports = {name: str(port) for name, port in zip(names, pick_ports(len(names)), strict=True)}
    place = {"user": "newcomer", "directory": "/home/newcomer/footfall"}
    environment = registries() | ports | {"HOME": "/home/newcomer"}
    start_and_stop(in_folder(folder, ["make", "run"], **place, environment=environment))
    command = (
        [".venv/bin/python", "-m", "pytest", "-n0", "-p", "no:cacheprovider", *tests] if tests else ["make", "test"]
    )
    run_in(folder, command, **place, environment=environment)


def start_and_stop(command: list[str]) -> None:
    """Runs `make run` until it says that it is up, and stops it as Ctrl-C does."""
    is_up = False
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        for line in process.stdout:
            print(line, end="")
            if UP in line:
                is_up = True
                for each in psutil.Process(process.pid).children(recursive=True):
                    if "footfall.supervisor" in command_of(each):
                        each.send_signal(signal.SIGINT)
    if not is_up or process.returncode:
        sys.exit(f"make run ended with {process.returncode}")


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["image"]:
            print(build_image())
        case ["newcomer", suite, *tests]:
            try_as_newcomer(suite, *tests)
