"""The process and what it runs on: versions, memory, size of the stores, libraries and their licences."""

from __future__ import annotations

import os
import platform
import re
import time
from importlib import metadata
from pathlib import Path
from typing import Any

from fastapi import APIRouter
from starlette.responses import Response

from gateway import __version__
from gateway.admin.access import CurrentPlane, Viewer
from gateway.admin.answers import answer, encoded
from gateway.settings import Settings

api = APIRouter(tags=["system"])

Row = dict[str, Any]

_NAME = re.compile(r"[A-Za-z0-9._-]+")
_LICENCE_CHARACTERS = 100


@api.get("/system")
async def system(principal: Viewer, plane: CurrentPlane) -> Response:
    """Return versions, uptime and memory of this worker, and the size of the stores."""
    settings, records = plane.gateway.settings, plane.gateway.records
    found = {
        "version": __version__,
        "python": platform.python_version(),
        "workers": plane.workers,
        "pid": os.getpid(),
        "started_at": plane.started_at,
        "uptime_s": round(time.monotonic() - plane.started, 3),
        "records": None if records is None else ("sqlite" if settings.records.database is not None else "postgres"),
    }
    return answer(await plane.threads.query(lambda: encoded({**found, "rss_bytes": _rss(), "files": _sizes(settings)})))


@api.get("/system/libraries")
async def libraries(principal: Viewer, plane: CurrentPlane) -> Response:
    """Return the libraries that serving needs, with version and licence as they state it."""
    return answer(await plane.threads.query(lambda: encoded({"libraries": _libraries()})))


def _rss() -> int | None:
    """Return the process's resident memory, where the system tells it."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return None
    return pages * os.sysconf("SC_PAGE_SIZE")


def _sizes(settings: Settings) -> Row:
    """Return the bytes on disk of each SQLite file with what lies beside it; by section, no path."""
    named = {
        "records": settings.records.database,
        "feedback": settings.feedback.database,
        "admin": settings.admin.database or (settings.records.database and f"{settings.records.database}.admin"),
    }
    return {name: _size(path) for name, path in named.items() if path}


def _size(path: str) -> int:
    total = 0
    for part in (path, f"{path}-wal", f"{path}-shm"):
        try:
            total += os.stat(part).st_size
        except OSError:
            continue
    return total


def _libraries() -> list[Row]:
    try:
        required = metadata.requires("pointsman") or []
    except metadata.PackageNotFoundError:  # run from a checkout
        return []
    wanted = (found[0] for line in required if "extra ==" not in line and (found := _NAME.match(line)))
    return [library for name in sorted(set(wanted)) if (library := _library(name)) is not None]


def _library(name: str) -> Row | None:
    try:
        known = metadata.metadata(name)
    except metadata.PackageNotFoundError:
        return None
    stated = _first(known.get_all("License-Expression")) or _first(known.get_all("License"))
    classified = [
        line.rpartition(" :: ")[2] for line in known.get_all("Classifier") or () if line.startswith("License")
    ]
    licence = stated.strip().partition("\n")[0][:_LICENCE_CHARACTERS] or ", ".join(classified)
    return {"name": name, "version": _first(known.get_all("Version")) or None, "licence": licence or None}


def _first(values: list[Any] | None) -> str:
    return str(values[0]) if values else ""
