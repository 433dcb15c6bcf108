"""Which servers an administrator has switched off, for all workers of a gateway: one writes it down, all follow it.

The file lies in the workers' own folder and ends with them, as a switch in a single process does. It says what is
wanted, not what changed: a worker that starts later, or gets a server back by a reload, follows it as well.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Self

import orjson
import structlog

log = structlog.get_logger(__name__)

EVERY_S = 1.0
NAME = "switches"


class SharedSwitches:
    """One worker's part in it; an async context manager that follows the file while it is entered.

    Args:
        switch: switches one server of this worker, by address; `KeyError` when it has none such.
        folder: where the file is.
        every_s: time between two looks.
    """

    def __init__(self, switch: Callable[[str, bool], None], folder: Path, *, every_s: float = EVERY_S) -> None:
        self._switch = switch
        self._file = folder / NAME
        self._every_s = every_s
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Do what the file says, and begin to follow it."""
        await self._follow()
        self._task = asyncio.create_task(self._keep_following())
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Stop following."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def tell(self, url: str, on: bool) -> None:
        """Have all workers switch a server. Only one worker may call this.

        Raises:
            OSError: nothing was written down.
        """
        await asyncio.to_thread(self._write, url, on)

    def _write(self, url: str, on: bool) -> None:
        new = self._file.with_suffix(".new")
        new.write_bytes(orjson.dumps({**self._read(), url: on}))
        new.replace(self._file)

    def _read(self) -> dict[str, bool]:
        try:
            content = orjson.loads(self._file.read_bytes())
        except FileNotFoundError:
            return {}
        except (OSError, orjson.JSONDecodeError) as error:
            log.warning("switches_not_read", error=type(error).__name__)
            return {}
        return content if isinstance(content, dict) else {}

    async def _follow(self) -> None:
        for url, on in (await asyncio.to_thread(self._read)).items():
            with suppress(KeyError):
                self._switch(url, on)

    async def _keep_following(self) -> None:
        while True:
            await asyncio.sleep(self._every_s)
            await self._follow()
