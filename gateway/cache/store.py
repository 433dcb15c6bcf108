"""Keeps answers in memory, so many, so large, so long, the least recently used going first. Knows no request.

For the event loop of one process. It holds answers and digests of requests, never a prompt.
"""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from gateway.answers import Usage
from gateway.settings.cache import RECORDED_SHARE, CacheSettings

# What an entry takes besides its body: the objects, its key, its places in two dictionaries (measured: 560 to 700).
ENTRY_BYTES = 768


@dataclass(frozen=True, slots=True)
class Entry:
    """One whole answer with status 200.

    Attributes:
        content_type: the upstream's.
        body: its bytes as the upstream sent them; of a stream all events up to `[DONE]`, the usage chunk among them.
        usage: what it cost when it was made; read only.
        rewrite: the rewrite that went into it.
        stored_at: when, in seconds of the cache's clock.
    """

    content_type: str
    body: bytes
    usage: Usage
    rewrite: str | None = None
    stored_at: float = 0.0

    @property
    def size_bytes(self) -> int:
        """Memory that it takes."""
        return len(self.body) + ENTRY_BYTES


@dataclass(frozen=True, slots=True)
class CacheState:
    """How a cache is doing.

    Attributes:
        entries: answers kept.
        held_bytes: memory for them and for streams being recorded.
        evicted: answers that had to make room, since the start.
        expired: answers that became too old.
    """

    entries: int
    held_bytes: int
    evicted: int
    expired: int


class ResponseCache:
    """The answers of one process.

    Args:
        settings: the configuration's section.
        clock: seconds that never go back.
    """

    def __init__(self, settings: CacheSettings, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._settings = settings
        self._entries: OrderedDict[bytes, Entry] = OrderedDict()
        # The same keys, the oldest first: what is too old goes without being looked for.
        self._ages: dict[bytes, float] = {}
        self._kept = self._lent = 0
        self._evicted = self._expired = 0

    def __len__(self) -> int:
        return len(self._entries)

    def configure(self, settings: CacheSettings) -> None:
        """Obey other settings from now on; a cache that is switched off forgets all."""
        self._settings = settings
        if not settings.enabled:
            self.clear()
        self._expire()
        self._shrink()

    def look(self, key: bytes, max_age_s: float = math.inf) -> Entry | None:
        """Return the answer kept under a key, if it is no older than the settings and `max_age_s` allow."""
        self._expire()
        entry = self._entries.get(key)
        if entry is None or self._clock() - entry.stored_at > max_age_s:
            return None
        self._entries.move_to_end(key)
        return entry

    def age_s(self, entry: Entry) -> int:
        """Return an answer's age in whole seconds, as the header `age` has it."""
        return max(0, int(self._clock() - entry.stored_at))

    def keep(self, key: bytes, entry: Entry) -> bool:
        """Keep an answer, in the place of an older one, from now on; False when it is too large."""
        self._expire()
        self._drop(key)
        if len(entry.body) > self._settings.answer_bytes:
            return False
        now = self._clock()
        self._entries[key] = Entry(entry.content_type, entry.body, entry.usage, entry.rewrite, now)
        self._ages[key] = now
        self._kept += entry.size_bytes
        self._shrink()
        return key in self._entries

    def lend(self, count: int) -> bool:
        """Ask for memory to record a stream in; False when streams have their part already."""
        if self._lent + count > self._settings.memory_bytes // RECORDED_SHARE:
            return False
        self._lent += count
        self._shrink()
        return True

    def give_back(self, count: int) -> None:
        """Return what was lent."""
        self._lent -= count

    def clear(self) -> None:
        """Forget all answers."""
        self._entries.clear()
        self._ages.clear()
        self._kept = 0

    def state(self) -> CacheState:
        """Return how it is doing."""
        return CacheState(len(self._entries), self._kept + self._lent, self._evicted, self._expired)

    def answer_limit(self) -> int:
        """Return the largest body that is kept."""
        return self._settings.answer_bytes

    def _expire(self) -> None:
        oldest = self._clock() - self._settings.ttl_s
        while self._ages:
            key, stored_at = next(iter(self._ages.items()))
            if stored_at > oldest:
                return
            self._drop(key)
            self._expired += 1

    def _shrink(self) -> None:
        settings = self._settings
        while self._entries and (
            len(self._entries) > settings.entries or self._kept + self._lent > settings.memory_bytes
        ):
            self._drop(next(iter(self._entries)))
            self._evicted += 1

    def _drop(self, key: bytes) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            del self._ages[key]
            self._kept -= entry.size_bytes
