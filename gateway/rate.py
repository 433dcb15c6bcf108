"""Says whether a key may do something once more: a token bucket per key. Refusing is the caller's business."""

from __future__ import annotations

import time
from collections.abc import Callable

MAXIMUM_KEYS = 10_000


class RateLimit:
    """At most so many a minute by each key, all at once if need be.

    Kept as the generic cell rate algorithm: one time per key, at which its bucket will be full again.

    Args:
        per_minute: size of the bucket, and how much flows in per minute.
        clock: seconds, never going back.

    Source: ITU-T I.371, annex A (virtual scheduling).
    """

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._every_s = 60.0 / per_minute
        self._burst_s = 60.0 - self._every_s
        self._clock = clock
        self._full_at: dict[str, float] = {}

    def take(self, key: str) -> float:
        """Take a token. Returns 0 when there was one, else the seconds until there is; then nothing is taken."""
        now = self._clock()
        full_at = max(now, self._full_at.get(key, now))
        wait_s = full_at - now - self._burst_s
        # Sums of floats: a bucket that is empty by a rounding error is not.
        if wait_s > 1e-9:
            return wait_s
        if len(self._full_at) >= MAXIMUM_KEYS:
            self._drop_full(now)
        self._full_at[key] = full_at + self._every_s
        return 0.0

    def _drop_full(self, now: float) -> None:
        self._full_at = {key: full_at for key, full_at in self._full_at.items() if full_at > now}
