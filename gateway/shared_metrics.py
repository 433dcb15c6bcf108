"""Shows the metrics of all workers on the page of any one: each writes its own into a file, every one reads all.

prometheus_client's own way, a memory-mapped file per process, was not taken: it makes every count slower, cannot read
gauges when they are asked for, and loses nothing only as long as nobody clears the folder. Here counting costs nothing
extra, and what a page says of the other workers is a second old. A file is a worker's place, not its process: who takes
the place of a dead worker counts on from where that one was last seen, so that sums do not fall.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from pathlib import Path
from typing import Self

import orjson
import structlog

from gateway.metrics import Metrics
from gateway.metrics_sum import Snapshot, add, counted, render, snapshot

log = structlog.get_logger(__name__)

EVERY_S = 1.0
# What a dead worker's gauges said does not hold any more.
STALE_S = 5.0


class SharedMetrics:
    """One worker's part in it; an async context manager that writes while it is entered.

    Args:
        metrics: the worker's own.
        folder: where all workers' files are.
        place: the worker's number.
    """

    def __init__(self, metrics: Metrics, folder: Path, place: int) -> None:
        self._metrics = metrics
        self._folder = folder
        self._own = folder / f"{place}.json"
        self._before = counted(_read(self._own) or Snapshot())
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Begin to write."""
        self._task = asyncio.create_task(self._keep_writing())
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Write once more."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        await asyncio.to_thread(self._write)

    async def page(self) -> tuple[bytes, str]:
        """Return the sum of all workers for a scraper, and its content type."""
        return await asyncio.to_thread(self._page)

    def _page(self) -> tuple[bytes, str]:
        others = (path for path in sorted(self._folder.glob("*.json")) if path != self._own)
        found = [_read(path) for path in others]
        return render(add([self._sum(), *(other for other in found if other is not None)]))

    def _sum(self) -> Snapshot:
        return add([snapshot(self._metrics.registry), self._before])

    def _write(self) -> None:
        content = {"at": time.monotonic(), "metrics": self._sum()}
        new = self._own.with_suffix(".new")
        try:
            new.write_bytes(orjson.dumps(content))
            new.replace(self._own)
        except OSError as error:
            log.warning("shared_metrics_not_written", error=type(error).__name__)

    async def _keep_writing(self) -> None:
        while True:
            await asyncio.to_thread(self._write)
            await asyncio.sleep(EVERY_S)


def _read(path: Path) -> Snapshot | None:
    """Return what a worker wrote, without its gauges if it writes no more; None when there is nothing to read."""
    try:
        content = orjson.loads(path.read_bytes())
    except (OSError, orjson.JSONDecodeError):  # not there yet
        return None
    found = Snapshot(content["metrics"])
    # The monotonic clock is the machine's, so that of another process can be compared.
    return found if time.monotonic() - content["at"] < STALE_S else counted(found)
