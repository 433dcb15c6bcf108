"""Finished requests as they happen, to a few listeners. Keeps nothing for long and never holds up a request.

Each listener has a bounded queue; what does not fit is counted, not kept. While nobody listens the recorder does not
even know of it. Live state is one worker's, so a listener hears the requests of the worker that it is connected to.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Self

from gateway.context import RequestContext, RouteRecord
from gateway.errors import Overloaded
from gateway.recorder import Recorder

MOST_LISTENERS = 16
QUEUE_ROWS = 200


class Listener:
    """One that listens; a context manager, closed by whoever opened it. For the event loop only.

    Attributes:
        dropped: how many requests did not fit since the start.
    """

    def __init__(self, tail: Tail, rows: int) -> None:
        self._tail = tail
        self._rows: deque[RouteRecord] = deque()
        self._most = rows
        self._any = asyncio.Event()
        self.dropped = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def put(self, record: RouteRecord) -> None:
        """Take a finished request, or count it as dropped."""
        if len(self._rows) >= self._most:
            self.dropped += 1
            return
        self._rows.append(record)
        self._any.set()

    async def take(self, limit_s: float) -> list[RouteRecord]:
        """Return what has come, the oldest first, waiting for the first one; empty after `limit_s`."""
        try:
            async with asyncio.timeout(limit_s):
                await self._any.wait()
        except TimeoutError:
            return []
        rows = list(self._rows)
        self._rows.clear()
        self._any.clear()
        return rows

    def close(self) -> None:
        """Listen no more; a second call does nothing."""
        self._tail.leave(self)


class Tail:
    """All that listen. For the event loop only.

    Args:
        recorder: returns whose finished requests they hear of.
        most: most listeners.
        rows: most requests that wait for one of them.
    """

    def __init__(self, recorder: Callable[[], Recorder], most: int = MOST_LISTENERS, rows: int = QUEUE_ROWS) -> None:
        self._recorder = recorder
        self._most = most
        self._rows = rows
        self._listeners: set[Listener] = set()
        self._heard: Recorder | None = None

    def __len__(self) -> int:
        return len(self._listeners)

    def listen(self) -> Listener:
        """Begin to listen.

        Raises:
            Overloaded: too many do.
        """
        if len(self._listeners) >= self._most:
            raise Overloaded(f"{self._most} pages follow requests live already; close one.", code="too_many_listeners")
        if not self._listeners:
            self._heard = self._recorder()
            self._heard.observers = (*self._heard.observers, self._note)
        listener = Listener(self, self._rows)
        self._listeners.add(listener)
        return listener

    def leave(self, listener: Listener) -> None:
        """Forget one that listened; for `Listener` only."""
        self._listeners.discard(listener)
        if not self._listeners and self._heard is not None:
            self._heard.observers = tuple(one for one in self._heard.observers if one != self._note)
            self._heard = None

    def _note(self, context: RequestContext, record: RouteRecord) -> None:
        for listener in self._listeners:
            listener.put(record)
