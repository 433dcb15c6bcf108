"""Ends a request's task when its client leaves or a limit passes, and says why. One timer per request, re-armed lazily.

`asyncio.timeout` around every read of a stream would set and cancel a timer per token; here a read only moves a
number, and the timer looks at it when it fires.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Self

from gateway.errors import ClientLeft, PointsmanError, UpstreamTimeout

Receive = Callable[[], Any]

WATCH_AFTER_S = 0.05


class Cutoff:
    """Belongs to the task that makes it.

    Args:
        total_s: the whole request must be over by then.
    """

    def __init__(self, total_s: float) -> None:
        task = asyncio.current_task()
        assert task is not None, "made outside a task"
        self._task = task
        self._loop = asyncio.get_running_loop()
        self._total_at = self._loop.time() + total_s
        self._phase_at = self._total_at
        self._phase_error: Callable[[], PointsmanError] = _too_long
        self._timer: asyncio.TimerHandle | None = None
        self._watch: asyncio.Task[None] | None = None
        self._watch_timer: asyncio.TimerHandle | None = None
        self._cause: PointsmanError | None = None
        self._closed = False

    def allow(self, limit_s: float, error: Callable[[], PointsmanError]) -> None:
        """Give what comes next `limit_s` seconds; past that the task is stopped with `error()`.

        Cheap enough to call for every chunk.
        """
        self._phase_at = self._loop.time() + limit_s
        self._phase_error = error
        due = min(self._phase_at, self._total_at)
        if self._timer is None or due < self._timer.when():
            self._set_timer(due)

    def phase(self, limit_s: float, error: Callable[[], PointsmanError]) -> Self:
        """Give the following `with` block `limit_s` seconds. Phases do not nest.

        Raises:
            PointsmanError: instead of `CancelledError`, why the block was stopped: `error()`, the total limit's
                error, or `ClientLeft`.
        """
        self.allow(limit_s, error)
        return self

    def __enter__(self) -> None:
        """Begin the phase; see `phase`."""

    def __exit__(self, kind: type[BaseException] | None, *exc: object) -> None:
        """End the phase."""
        self._phase_at = self._total_at
        self._phase_error = _too_long
        if kind is asyncio.CancelledError:
            self.reraise()

    def watch(self, receive: Receive) -> None:
        """Stop the task when the client leaves. Call once the body has been read.

        Looking begins a little later: what is answered by then saves a task.
        """
        self._watch_timer = self._loop.call_later(WATCH_AFTER_S, self._start_watching, receive)

    def unwatch(self) -> None:
        """Stop looking at the client: the server reports a disconnect also after a complete answer."""
        if self._watch_timer is not None:
            self._watch_timer.cancel()
            self._watch_timer = None
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None

    def close(self) -> None:
        """End timer and watcher. The task is safe from then on."""
        self._closed = True
        self.unwatch()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def reraise(self) -> None:
        """Inside `except CancelledError`: raise the cause if it was us; otherwise somebody else cancelled the task."""
        cause, self._cause = self._cause, None
        if cause is not None:
            self._task.uncancel()
            raise cause from None

    def check(self) -> None:
        """Raise the cause when the task has been stopped but its cancellation was taken for somebody else's.

        Raises:
            PointsmanError: why it was stopped.
        """
        if self._cause is not None and asyncio.current_task() is self._task:
            self.reraise()

    def stop(self, error: PointsmanError) -> None:
        """Stop the task with this error; does nothing once it is stopped or closed."""
        if self._cause is None and not self._closed:
            self._cause = error
            self._task.cancel()

    def _set_timer(self, due: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(due, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        now = self._loop.time()
        if now >= self._total_at:
            self.stop(_too_long())
        elif now >= self._phase_at:
            self.stop(self._phase_error())
        else:
            self._set_timer(min(self._phase_at, self._total_at))

    def _start_watching(self, receive: Receive) -> None:
        self._watch = self._loop.create_task(self._until_disconnect(receive))

    async def _until_disconnect(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self.stop(ClientLeft("The client closed its connection."))


def _too_long() -> PointsmanError:
    return UpstreamTimeout("The request took longer than its total limit.")
