"""The process and what it runs on: versions, memory, size of the stores, libraries and their licences."""

from __future__ import annotations

import os
import platform
import time

from fastapi import APIRouter
from starlette.responses import Response

from gateway import __version__
from gateway.admin import system_facts
from gateway.admin.access import CurrentPlane, Viewer
from gateway.admin.answers import answer, encoded

api = APIRouter(tags=["system"])


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

    def read() -> bytes:
        return encoded({**found, "rss_bytes": system_facts.rss_bytes(), "files": system_facts.file_sizes(settings)})

    return answer(await plane.threads.query(read))


@api.get("/system/libraries")
async def libraries(principal: Viewer, plane: CurrentPlane) -> Response:
    """Return the libraries that serving needs, with version and licence as they state it."""
    return answer(await plane.threads.query(lambda: encoded({"libraries": system_facts.libraries()})))
