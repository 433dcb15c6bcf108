"""Keeps keyring and admin tokens as the store says, and notes in it when keys were used. Judges no key.

The store is looked at once a second, in a thread. While it cannot be read, the keys that were read last stay: a
store that is down must not turn callers away. Those that it would have revoked meanwhile are good until it is back,
but an expiry counts without it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Self

import structlog

from gateway.keyring.access import Access, read_access
from gateway.keyring.admin import AdminTokens
from gateway.keyring.ring import Keyring
from gateway.settings import KeyStoreSettings
from gateway.stores.keys import KeyStore
from gateway.stores.keys.choosing import key_store
from gateway.stores.sqlite import StoreError

log = structlog.get_logger(__name__)

EVERY_S = 1.0
NOTE_EVERY_S = 60.0
LIMIT_S = 5.0


class KeyWatch:
    """An async context manager: entered before the first request, left after the last one.

    Args:
        keyring: gets the store's keys; it is locked from now on when there is a store.
        tokens: gets the store's admin tokens.
        settings: where the store is, if there is one; checked by `check_key_store`.
        every_s: time between two looks; a revocation counts after one of them, and the time of a look.
        note_every_s: time between two notes of when keys were used.
        clock: seconds, never going back.

    Attributes:
        loads: how often keys were loaded, as they had changed.
        errors: how often the store could not be read or written.

    Raises:
        MissingSecret: an environment variable that the settings name is not set.
    """

    def __init__(
        self,
        keyring: Keyring,
        tokens: AdminTokens,
        settings: KeyStoreSettings,
        *,
        every_s: float = EVERY_S,
        note_every_s: float = NOTE_EVERY_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._keyring = keyring
        self._tokens = tokens
        self._settings = settings
        self._store = key_store(settings)
        self._every_s = every_s
        self._note_every_s = note_every_s
        self._clock = clock
        self._access: Access | None = None
        self._problem: str | None = None
        self._read_at = clock()
        self._noted_at = clock()
        self._asked = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.loads = self.errors = 0
        keyring.lock(settings.wanted)

    async def __aenter__(self) -> Self:
        """Read the store, for some seconds at most, and begin to watch it."""
        with suppress(TimeoutError):
            async with asyncio.timeout(LIMIT_S):
                await self._look()
        self._task = asyncio.create_task(self._watch())
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Stop watching, and note what was used; what takes longer than some seconds is not noted."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        with suppress(TimeoutError):
            async with asyncio.timeout(LIMIT_S):
                await self._note()

    @property
    def problem(self) -> str | None:
        """Why the store cannot be read; None when it can."""
        return self._problem

    @property
    def stored(self) -> bool:
        """Whether there is a store."""
        return self._store is not None

    @property
    def keys(self) -> int:
        """How many keys open something now."""
        return len(self._keyring)

    @property
    def age_s(self) -> float:
        """How long ago the store was last read, or the watch was made."""
        return self._clock() - self._read_at

    def follow(self, settings: KeyStoreSettings) -> None:
        """Use the store that these settings name from now on, or none; nothing happens when it is the same.

        Until another one is read, its keys are unknown, and those of the one before are no longer good.

        Raises:
            MissingSecret: an environment variable that the settings name is not set.
        """
        if settings == self._settings:
            return
        self._settings, self._store = settings, key_store(settings)
        self._keyring.lock(settings.wanted)
        self._apply(None)
        self._tell(None)
        self._asked.set()

    def ask(self) -> None:
        """Have the store looked at at once, for example after a change of our own."""
        self._asked.set()

    async def _watch(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._every_s):
                    await self._asked.wait()
            self._asked.clear()
            await self._look()
            if self._clock() - self._noted_at >= self._note_every_s:
                await self._note()

    async def _look(self) -> None:
        store = self._store
        if store is None:
            return
        mark = None if self._access is None else self._access.mark
        try:
            access = await asyncio.to_thread(_read, store, mark)
        except StoreError as error:
            self.errors += 1
            self._tell(str(error))
            return
        except Exception as error:  # a defect of ours must not end the watching
            self.errors += 1
            log.error("key_store_failed", exc_info=error)
            return
        if store is not self._store:
            return
        self._tell(None)
        self._read_at = self._clock()
        if access is not None:
            self.loads += 1
            self._apply(access)
            log.info("keys_read", keys=len(access.keys), admin_tokens=len(access.admins))

    async def _note(self) -> None:
        self._noted_at = self._clock()
        used = {**self._keyring.take_used(), **self._tokens.take_used()}
        if self._store is None or not used:
            return
        try:
            await asyncio.to_thread(self._store.touch, used)
        except StoreError as error:
            self.errors += 1
            # A read-only file is a way to keep keys, so this is no error; the times are lost.
            log.warning("key_use_not_noted", error=str(error), keys=len(used))

    def _apply(self, access: Access | None) -> None:
        self._access = access
        self._keyring.change_stored(access)
        self._tokens.change_stored(access)

    def _tell(self, problem: str | None) -> None:
        if problem != self._problem:
            if problem is None:
                log.info("key_store_readable")
            else:
                log.error("key_store_unreadable", error=problem)
        self._problem = problem


def _read(store: KeyStore, mark: str | None) -> Access | None:
    """Run in a thread: return what the store holds, None when that is what it held before."""
    if mark is not None and store.mark() == mark:
        return None
    return read_access(store.load())
