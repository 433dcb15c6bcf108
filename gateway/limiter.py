"""So many at once; the others wait in a bounded queue, fair between keys. Knows nothing of what the places are for.

A freed place is handed to the next waiter before anybody who comes later can take it. For the event loop only: there
are no locks, and between taking from the queue and handing over nothing else can run.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable

from gateway.errors import UpstreamSaturated
from gateway.fair_queue import FairQueue


class Place:
    """One of the places, held until `close`; a context manager too."""

    __slots__ = ("_limiter",)

    def __init__(self, limiter: Limiter) -> None:
        self._limiter: Limiter | None = limiter

    def __enter__(self) -> Place:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the place back; a second call does nothing."""
        limiter, self._limiter = self._limiter, None
        if limiter is not None:
            limiter.release()


class Limiter:
    """Hands out places.

    Args:
        limit: how many there are.
        queue: how many may wait.
        queue_s: longest wait.
        clock: seconds, monotonic; for `oldest_s` only, waiting goes by the event loop's.

    Attributes:
        running: places that are taken.
    """

    def __init__(self, limit: int, queue: int, queue_s: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = limit
        self._most_waiting = queue
        self._queue_s = queue_s
        self._clock = clock
        self._queue: FairQueue[_Waiter] = FairQueue()
        self.running = 0

    @property
    def waiting(self) -> int:
        """How many wait."""
        return len(self._queue)

    @property
    def oldest_s(self) -> float:
        """How long the one has waited who has waited longest; 0 when nobody waits."""
        oldest = self._queue.oldest()
        return 0.0 if oldest is None else self._clock() - oldest.since

    @property
    def limit(self) -> int:
        """How many places there are. A smaller number takes none away from those who have one."""
        return self._limit

    @limit.setter
    def limit(self, limit: int) -> None:
        self._limit = limit
        self._hand_out()

    def configure(self, limit: int, queue: int, queue_s: float) -> None:
        """Take other limits, after a change of the configuration; who waits already goes on under the old ones."""
        self._most_waiting, self._queue_s = queue, queue_s
        self.limit = limit

    @property
    def full(self) -> bool:
        """Whether one more would have to wait. While somebody waits, it is: what is freed is handed over at once."""
        return self.running >= self._limit

    @property
    def refuses(self) -> bool:
        """Whether one more would most likely be refused at once."""
        return self.full and len(self._queue) >= self._most_waiting

    def take(self) -> Place | None:
        """Take a place at once; None when there is none."""
        if self.full:
            return None
        self.running += 1
        return Place(self)

    async def place(self, key: str = "", limit_s: float | None = None) -> Place:
        """Wait for a place.

        Args:
            key: whose it will be; keys get places in turn.
            limit_s: longest wait, when it is shorter than everybody's.

        Raises:
            UpstreamSaturated: too many wait already, or it took too long. When the queue is full, who has most in it
                gives way to who has less.
        """
        place = self.take()
        if place is not None:
            return place
        wait_s = self._queue_s if limit_s is None else min(limit_s, self._queue_s)
        if not wait_s > 0:
            raise self._saturated()
        self._make_room(key)
        return await self._wait(key, wait_s)

    def release(self) -> None:
        """Take a place back; for `Place` only."""
        self.running -= 1
        self._hand_out()

    async def _wait(self, key: str, wait_s: float) -> Place:
        loop = asyncio.get_running_loop()
        waiter = _Waiter(loop.create_future(), self._clock())
        self._queue.push(key, waiter)
        timer = loop.call_later(wait_s, self._refuse, waiter)
        try:
            granted = await waiter.granted
        except asyncio.CancelledError:
            self._queue.discard(waiter)
            if not waiter.granted.cancelled() and waiter.granted.result():
                # Handed over in the very moment: it belongs to the next one.
                self.release()
            raise
        finally:
            timer.cancel()
        if not granted:
            raise self._saturated()
        return Place(self)

    def _hand_out(self) -> None:
        while self.running < self._limit and len(self._queue):
            waiter = self._queue.pop()
            # A waiter that was cancelled may still stand here until its task has run.
            if not waiter.granted.done():
                self.running += 1
                waiter.granted.set_result(True)

    def _make_room(self, key: str) -> None:
        if len(self._queue) < self._most_waiting:
            return
        # Only from who has at least two more: else the two would take each other's place in turn.
        last = self._queue.last_of_longest(self._queue.length_of(key) + 1)
        if last is None:
            raise self._saturated()
        self._refuse(last)

    def _refuse(self, waiter: _Waiter) -> None:
        self._queue.discard(waiter)
        if not waiter.granted.done():
            waiter.granted.set_result(False)

    def _saturated(self) -> UpstreamSaturated:
        seconds = str(max(1, math.ceil(self._queue_s)))
        return UpstreamSaturated("The expert's servers are busy.", headers=(("retry-after", seconds),))


class _Waiter:
    """Somebody in the queue; compared by identity."""

    __slots__ = ("granted", "since")

    def __init__(self, granted: asyncio.Future[bool], since: float) -> None:
        self.granted = granted
        self.since = since
