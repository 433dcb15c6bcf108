"""Saves what was spent once a second, off the path of requests, and takes over what other processes saved.

A killed process loses at most what was spent in its last second; a clean stop loses nothing. While the store cannot be
used, what was spent waits in memory, one number by key and day.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

import structlog

from gateway.limits.accounts import Accounts
from gateway.limits.contract import SpendingStore

log = structlog.get_logger(__name__)

EVERY_S = 1.0
CLOSE_S = 5.0


class Keeping:
    """Keeps a store up to date.

    Args:
        accounts: whose money is saved.
        store: where.
        every_s: pause between two exchanges.

    Attributes:
        failing: why the last exchange failed; None when it did not.
    """

    def __init__(self, accounts: Accounts, store: SpendingStore, every_s: float = EVERY_S) -> None:
        self._accounts = accounts
        self._store = store
        self._every_s = every_s
        self._task: asyncio.Task[None] | None = None
        self._ending = asyncio.Event()
        self.failing: str | None = None

    async def open(self) -> None:
        """Read what has been spent and begin to save.

        Raises:
            OSError, RuntimeError: the store cannot be used.
        """
        calendar = self._accounts.calendar
        calendar.turn()
        day = calendar.day
        self._accounts.keep_unsaved()
        self._accounts.learn(await self._store.open(day), day)
        self._task = asyncio.create_task(self._run())

    async def close(self) -> None:
        """Save the rest and close the store; what takes longer than `CLOSE_S` is given up."""
        if self._task is not None:
            # Not cancelled: what is under way would be saved all the same, and then once more.
            self._ending.set()
            await asyncio.wait([self._task], timeout=CLOSE_S)
            if not self._task.done():
                self._task.cancel()
                log.error("spending_not_saved", error="the store does not answer")
                return
        await self._store.close()

    async def exchange(self) -> None:
        """Save what was spent since the last time. Failing, it is kept for the next."""
        accounts = self._accounts
        accounts.calendar.turn()
        day, spent = accounts.calendar.day, accounts.unsaved()
        try:
            totals = await self._store.exchange(spent, day)
        except (OSError, RuntimeError) as error:
            accounts.put_back(spent)
            if self.failing is None:
                log.warning("spending_not_saved", error=str(error))
            self.failing = str(error)
            return
        if self.failing is not None:
            log.info("spending_saved_again")
        self.failing = None
        accounts.learn(totals, day)

    async def _run(self) -> None:
        ended = False
        while not ended:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._every_s):
                    await self._ending.wait()
            ended = self._ending.is_set()
            try:
                await self.exchange()
            except Exception:  # a defect of ours must not end the saving
                log.exception("spending_not_saved")
