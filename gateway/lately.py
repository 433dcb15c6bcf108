"""What this process saw lately, for people to look at: how many requests, and its own time for each. Decides nothing.

The histogram in the metrics is of all time and has few buckets; this is exact, of the last some thousand requests.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from gateway.context import RouteRecord
from gateway.window import Window

KEPT = 4_096
RATE_S = 60.0


class Rate(NamedTuple):
    """Requests per second over the last `RATE_S` seconds, and which share of them ended with 5xx; None: of none."""

    per_s: float
    failed: float | None


class Lately:
    """The last requests of this process.

    Args:
        kept: most own times.
        clock: seconds, monotonic.
    """

    def __init__(self, kept: int = KEPT, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began = clock()
        self._overhead: deque[float] = deque(maxlen=kept)
        self._window = Window(RATE_S)

    def note(self, record: RouteRecord) -> None:
        """Take a finished request; own time counts of those that an expert answered, others were not sent on."""
        self._window.add(self._clock(), failed=record.status >= 500)
        if record.chosen is not None:
            self._overhead.append(record.overhead_s)

    @property
    def timed(self) -> int:
        """Of how many requests the own time is known."""
        return len(self._overhead)

    def overhead(self, *shares: float) -> list[float | None]:
        """Return the seconds that these shares (0 to 1) of the requests stay below; None: there were no requests.

        They run from a request's last byte to its being sent on, and the classifier's are among them.
        """
        if not self._overhead:
            return [None] * len(shares)
        found: list[float] = np.quantile(np.array(self._overhead), shares).tolist()
        return list(found)

    def rate(self) -> Rate:
        """Return how much there is to do."""
        now = self._clock()
        requests, failed = self._window.totals(now)
        seconds = min(RATE_S, max(1.0, now - self._began))
        return Rate(requests / seconds, failed / requests if requests else None)
