#!/usr/bin/env python3
"""Builds the Dockerfile for real where no container engine runs and no image registry can be reached.

    build_image.py STORAGE          builds `localhost/pointsman:local` into the folder STORAGE (as root)
    build_image.py --install-tools  installs what that needs with apt-get (as root)

Debian's buildah does it in chroot isolation, on a stand-in for the official base image that debootstrap makes (kept in
`$POINTSMAN_CONTAINER_HOME`, by default `~/.cache/pointsman/container`). pip inside the build gets this machine's pip
settings. Where Docker or Podman and a registry are at hand, use those instead (README.md); this proves the Dockerfile,
it makes no image to publish. Standard library only.
"""

from __future__ import annotations

import argparse
import ast
import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

ROOT = Path(__file__).resolve().parents[1]
TOOLS = ("buildah", "debootstrap", "docker-compose")
SUITE = "bookworm"  # has Python 3.11, as the base the Dockerfile names
BASE = "docker.io/library/python:3.11-slim-bookworm"
IMAGE = "localhost/pointsman:local"
# As in the official images, whose Python lives in /usr/local.
PYTHON_LINKS = ("usr/local/bin/python3", "usr/local/bin/python")

log = logging.getLogger("build_image")


class CannotBuild(Exception):
    """The image cannot be built here; the message says what to do."""


def install_tools() -> None:
    """Install the missing ones of `TOOLS`.

    Raises:
        CannotBuild: not root, no apt-get, or the packages cannot be had.
    """
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if not missing:
        return
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise CannotBuild(f"missing: {', '.join(missing)}; as root on Debian: apt-get install {' '.join(missing)}")
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    _run(["apt-get", "update", "-qq"], "Debian's package lists", env=quiet)
    _run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing], "the packages", env=quiet)


def build(storage: Path, image: str = IMAGE) -> None:
    """Build the Dockerfile.

    Args:
        storage: folder for buildah's images; made if missing.
        image: name of the image in it.

    Raises:
        CannotBuild: a tool is missing, this is not root, or a step failed.
    """
    if os.geteuid() != 0:
        raise CannotBuild("must be root: the base is made with chroot")
    for tool in ("buildah", "debootstrap"):
        if shutil.which(tool) is None:
            raise CannotBuild(f"{tool} is not installed; run {Path(__file__).name} --install-tools as root")
    storage.mkdir(parents=True, exist_ok=True)
    _import_base(storage, _base_archive())
    with _pip_configuration() as (file, mounts):
        # Docker's format, because OCI's has no health check. One layer per stage: with vfs every layer is a full copy.
        command = [
            *buildah(storage),
            "build",
            "--isolation=chroot",
            "--format=docker",
            "--layers=false",
            "--pull-never",
        ]
        command += [f"--secret=id=pip_conf,src={file}", *(f"--volume={path}:{path}:ro" for path in mounts)]
        command += [f"--build-arg=PYTHON_IMAGE={BASE}", f"--tag={image}", str(ROOT)]
        _run(command, "the Dockerfile")


def buildah(storage: Path) -> list[str]:
    """Return the beginning of a buildah command that uses this storage."""
    return ["buildah", f"--root={storage / 'root'}", f"--runroot={storage / 'run'}", "--storage-driver=vfs"]


def _base_archive() -> Path:
    """Make the stand-in for the official base image once."""
    home = Path(os.environ.get("POINTSMAN_CONTAINER_HOME") or "~/.cache/pointsman/container").expanduser()
    archive = home / f"{SUITE}-python.tar"
    if archive.is_file():
        log.info("%s: made before, reused", archive)
        return archive
    home.mkdir(parents=True, exist_ok=True)
    log.info("%s: making a base of Debian %s and its Python, about two minutes", archive, SUITE)
    with tempfile.TemporaryDirectory(dir=home) as name:
        root, unfinished = Path(name) / "root", Path(name) / "base.tar"
        packages = "--include=python3,python3-venv,ca-certificates"
        _run(["debootstrap", "--variant=minbase", packages, SUITE, str(root)], "the base")
        for link in PYTHON_LINKS:
            (root / link).symlink_to("/usr/bin/python3")
        _run(["tar", "--create", f"--file={unfinished}", f"--directory={root}", "--exclude=./dev/*", "."], "the base")
        unfinished.rename(archive)
    return archive


def _import_base(storage: Path, archive: Path) -> None:
    """Give the base the name the Dockerfile asks for."""
    run = buildah(storage)
    if subprocess.run([*run, "inspect", "--type=image", BASE], capture_output=True).returncode == 0:
        return
    container = _run([*run, "from", "scratch"], "the base").strip()
    _run([*run, "add", "--quiet", container, str(archive), "/"], "the base")
    path = "PATH=/usr/local/bin:/usr/local/sbin:/usr/bin:/usr/sbin:/bin:/sbin"
    _run([*run, "config", f"--env={path}", "--cmd=python3", container], "the base")
    _run([*run, "commit", "--quiet", "--rm", container, BASE], "the base")


@contextmanager
def _pip_configuration() -> Iterator[tuple[Path, list[Path]]]:
    """Write this machine's pip settings into one file, and list the local paths they name."""
    settings = _pip_settings()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "pip.conf"
        file.write_text("[global]\n" + "".join(f"{key} = {value}\n" for key, value in settings.items()))
        file.chmod(0o600)
        words = [word for value in settings.values() for word in value.split()]
        paths = [Path(urlsplit(word).path) for word in words if urlsplit(word).scheme in ("", "file")]
        # An index is a subfolder beside the files it links to, so its parent is needed as well.
        folders = [path.parent if path.name == "simple" else path for path in paths]
        yield file, sorted({path for path in folders if path.is_absolute() and path.exists()})


def _pip_settings() -> dict[str, str]:
    """Return pip's settings; those from the environment win, as they do in pip."""
    listing = _run([sys.executable, "-m", "pip", "config", "list"], "pip's settings")
    pairs = [line.partition("=") for line in listing.splitlines()]
    ranked = sorted(pairs, key=lambda pair: pair[0].startswith(":env:"))
    found = {key.rpartition(".")[2]: str(ast.literal_eval(value)) for key, _, value in ranked}
    return {key: " ".join(value.split()) for key, value in found.items()}


def _run(command: list[str], what: str, env: dict[str, str] | None = None) -> str:
    """Run a step and return what it printed.

    Raises:
        CannotBuild: it failed; the message has the end of its output.
    """
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    if done.returncode:
        output = (done.stdout + done.stderr)[-4000:]
        raise CannotBuild(f"{what}: {command[0]} ended with {done.returncode}\n{output}")
    return done.stdout


def main() -> None:
    """Do what the command line asks."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("storage", type=Path, nargs="?", help="folder for buildah's images")
    parser.add_argument("--install-tools", action="store_true", help="apt-get install what is missing")
    chosen = parser.parse_args()
    if not (chosen.storage or chosen.install_tools):
        parser.error("nothing to do: name a folder, or --install-tools")
    try:
        if chosen.install_tools:
            install_tools()
        if chosen.storage:
            build(chosen.storage.resolve())
            log.info("built %s", json.dumps({"storage": str(chosen.storage.resolve()), "image": IMAGE}))
    except CannotBuild as error:
        sys.exit(f"build_image.py: {error}")


if __name__ == "__main__":
    main()
