"""Counts what happened in the last seconds. Judges nothing."""

from __future__ import annotations

from collections import deque

WINDOW_STEPS = 10


class Window:
    """Counts requests and failures in steps of a tenth of the time, so memory and work do not grow with them.

    Args:
        length_s: how far it looks back.
    """

    def __init__(self, length_s: float) -> None:
        self._step_s = length_s / WINDOW_STEPS
        self._steps: deque[tuple[int, list[int]]] = deque()
        self._requests = self._failures = 0

    def add(self, now: float, *, failed: bool) -> None:
        """Count a request."""
        step = int(now / self._step_s)
        self._drop_old(step)
        if not self._steps or self._steps[-1][0] != step:
            self._steps.append((step, [0, 0]))
        counts = self._steps[-1][1]
        counts[0] += 1
        counts[1] += failed
        self._requests += 1
        self._failures += failed

    def totals(self, now: float) -> tuple[int, int]:
        """Return how many requests there were, and how many of them failed."""
        self._drop_old(int(now / self._step_s))
        return self._requests, self._failures

    def clear(self) -> None:
        """Forget all."""
        self._steps.clear()
        self._requests = self._failures = 0

    def _drop_old(self, step: int) -> None:
        while self._steps and self._steps[0][0] <= step - WINDOW_STEPS:
            requests, failures = self._steps.popleft()[1]
            self._requests -= requests
            self._failures -= failures
