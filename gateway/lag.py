"""Measures how late the event loop runs: everything that blocks it shows here. Blocks nothing itself."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from gateway.metrics import Metrics

LAG_EVERY_S = 0.25


class Lag:
    """Measures while it is entered; needs a running loop.

    Args:
        metrics: where it is shown.
        told: called with every measurement, in seconds.
    """

    def __init__(self, metrics: Metrics, told: Callable[[float], None]) -> None:
        self._histogram = metrics.loop_lag
        self._told = told

    def __enter__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._schedule()

    def __exit__(self, *exc: object) -> None:
        self._timer.cancel()

    def _schedule(self) -> None:
        self._due = self._loop.time() + LAG_EVERY_S
        self._timer = self._loop.call_at(self._due, self._measure)

    def _measure(self) -> None:
        lag_s = max(0.0, self._loop.time() - self._due)
        self._histogram.observe(lag_s)
        self._told(lag_s)
        self._schedule()
