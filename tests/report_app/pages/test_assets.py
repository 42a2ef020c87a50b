"""`make assets`, with the real npm and a registry of this machine."""

import hashlib
import json
import os
import re
import subprocess
import sys
import tarfile
from base64 import b64encode
from io import BytesIO
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import unquote

import pytest

from tests.support.browser import Listener, Quiet
from tests.support.running_system import ROOT
from tests.support.stock_clients import NODE, NPM

VENDOR = ROOT / "report_app" / "static" / "vendor"
# A world of three rectangles: degrees of longitude and latitude, and the codes of the countries.
RECTANGLES = {"276": (5, 47, 10, 8), "250": (-5, 42, 10, 6), "010": (-60, -80, 20, 5)}
WORLD = {
    "transform": {"scale": [1, 1], "translate": [0, 0]},
    "arcs": [[[x, y], [0, high], [wide, 0], [0, -high], [-wide, 0]] for x, y, wide, high in RECTANGLES.values()],
    "objects": {
        "countries": {
            "geometries": [
                {"type": "Polygon", "arcs": [[n]], "id": code, "properties": {"name": code}}
                for n, code in enumerate(RECTANGLES)
            ]
        }
    },
}


def package_of(name: str, version: str, files: dict[str, bytes]) -> bytes:
    """A package as npm publishes it."""
    written = BytesIO()
    described = json.dumps({"name": name, "version": version}).encode()
    with tarfile.open(fileobj=written, mode="w:gz") as archive:
        for path, content in {"package.json": described, **files}.items():
            entry = tarfile.TarInfo(f"package/{path}")
            entry.size = len(content)
            archive.addfile(entry, BytesIO(content))
    return written.getvalue()


class Registry(Quiet):
    packages: ClassVar[dict[str, tuple[str, bytes]]] = {}

    def do_GET(self) -> None:  # noqa: N802  http.server's name
        name = unquote(self.path).strip("/")
        if name.endswith(".tgz"):
            self.answer(200, self.packages[name.removesuffix(".tgz")][1], Content_Type="application/octet-stream")
            return
        version, archive = self.packages[name]
        integrity = f"sha512-{b64encode(hashlib.sha512(archive).digest()).decode()}"
        dist = {"tarball": f"http://{self.headers['Host']}/{name}.tgz", "integrity": integrity}
        about: dict[str, Any] = {"name": name, "dist-tags": {"latest": version}}
        about["versions"] = {version: {"name": name, "version": version, "dist": dist}}
        self.answer(200, json.dumps(about).encode(), Content_Type="application/json")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with the Makefile, the real npm, and vendored files of other versions."""
    (tmp_path / "Makefile").write_bytes((ROOT / "Makefile").read_bytes())
    (tmp_path / ".venv").symlink_to(sys.prefix)
    vendor = tmp_path / "report_app" / "static" / "vendor"
    vendor.mkdir(parents=True)
    (vendor / "old.min.js").write_text("old")
    npm = tmp_path / "bin" / "npm"
    npm.parent.mkdir()
    npm.write_text(f'#!/bin/sh\nexec {NODE} {NPM} "$@"\n')
    npm.chmod(0o755)
    return tmp_path


def test_make_assets_writes_the_files_of_the_pinned_packages(project: Path):
    pinned = re.search("^ASSETS := (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert pinned
    versions = dict(each.split("@") for each in pinned[1].split())
    ours = {file.name: file.read_bytes() for file in VENDOR.iterdir()}
    scripts = {"htmx.org": ["htmx.min.js"], "uplot": ["uPlot.iife.min.js", "uPlot.min.css"], "world-atlas": []}
    assert versions.keys() == scripts.keys()
    packages = {}
    for name, version in versions.items():
        files = {f"dist/{script}": ours[script] for script in scripts[name]} | {"dist/other.js": b"not ours"}
        files |= {"countries-50m.json": json.dumps(WORLD).encode()} if name == "world-atlas" else {}
        packages[name] = version, package_of(name, version, files | {"LICENSE": ours[f"{name}.LICENSE"]})
    with Listener(Registry, packages=packages) as registry:
        settings = {"registry": registry.origin, "cache": str(project / "cache"), "update_notifier": "false"}
        environment = os.environ | {f"npm_config_{name}": value for name, value in settings.items()}
        environment |= {"PATH": f"{project / 'bin'}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
        made = subprocess.run(
            ["make", "-o", ".venv/ready", "assets"],
            cwd=project,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
    assert made.returncode == 0, made.stderr
    written = {file.name: file.read_bytes() for file in (project / "report_app" / "static" / "vendor").iterdir()}
    assert written.keys() == ours.keys(), "no file of an earlier version stays"
    for name in written.keys() - {"world.svg", "VERSIONS"}:
        assert written[name] == ours[name], name
    assert re.findall('id="([A-Z]*)"', written["world.svg"].decode()) == ["DE", "FR"]
    lines = written["VERSIONS"].decode().splitlines()
    assert lines[: len(versions)] == pinned[1].split()
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in written.items()}
    named = sorted(name for name in written if name.endswith((".js", ".css", ".svg")))
    assert sorted(lines[len(versions) :], key=lambda line: line.split()[1]) == [
        f"{digests[name]}  {name}" for name in named
    ]
