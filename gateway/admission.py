"""Decides at the door whether the process can take one more request. Waits for nothing, so a refusal is immediate.

The limit on requests is lowered while the event loop lags, or what all requests share (the classifier) lets them
wait too long, and rises again when neither does: with a fixed one the process would either refuse what it could do
or do nothing in time. Only delay that stays counts, not one late moment.

Source: additive increase and multiplicative decrease as in TCP (RFC 5681); delay that stays as in CoDel (RFC 8289).
"""

from __future__ import annotations

import math

from gateway.errors import Overloaded, RateLimited
from gateway.settings.reliability import OverloadSettings

DECREASE = 0.9
INCREASE = 0.05
SMALLEST_SHARE = 0.02


class Admitted:
    """One request inside; `close` when it is over."""

    __slots__ = ("_admission", "_key")

    def __init__(self, admission: Admission, key: str) -> None:
        self._admission: Admission | None = admission
        self._key = key

    def close(self) -> None:
        """Let the request out; a second call does nothing."""
        admission, self._admission = self._admission, None
        if admission is not None:
            admission.leave(self._key)


class Admission:
    """The door of one process.

    Attributes:
        inside: requests that are in.
        limit: how many may be in at the moment.
    """

    def __init__(self, settings: OverloadSettings) -> None:
        self.configure(settings)
        self._late = False
        self._inside: dict[str, int] = {}
        self.inside = 0

    @property
    def limit(self) -> int:
        """How many may be in at the moment."""
        return int(self._limit)

    def configure(self, settings: OverloadSettings) -> None:
        """Take other limits, after a change of the configuration."""
        self._settings = settings
        self._least = max(1, math.ceil(settings.requests * SMALLEST_SHARE))
        self._limit = float(settings.requests)

    def enter(self, key: str) -> Admitted:
        """Let a request in.

        Args:
            key: name of the caller's key; "" when the gateway is open, then nobody can be told from anybody else.

        Raises:
            Overloaded: the process takes no more.
            RateLimited: it would, but not from this key. Above `pressure` the rest of the limit is kept for keys
                that have less than their fair share of it, where one key more is supposed than are there.
        """
        if self.inside >= self.limit:
            raise Overloaded("The gateway is overloaded; try again.", headers=self._headers())
        mine = self._inside.get(key, 0)
        if key and self.inside >= self._settings.pressure * self.limit and mine >= self.limit / (len(self._inside) + 1):
            raise RateLimited(
                "This key has too many requests open at once.", code="too_many_open", headers=self._headers()
            )
        self._inside[key] = mine + 1
        self.inside += 1
        return Admitted(self, key)

    def leave(self, key: str) -> None:
        """Let a request out; for `Admitted` only."""
        self.inside -= 1
        left = self._inside[key] - 1
        if left:
            self._inside[key] = left
        else:
            del self._inside[key]

    def observe(self, lag_s: float, queue_age_s: float) -> None:
        """Note how late things are, a few times a second.

        Args:
            lag_s: of the event loop.
            queue_age_s: longest wait for what all requests share. Not of the queue before one server: one busy
                expert must not close the door to the others.
        """
        # With next to nobody inside it is not requests that make it late.
        late = lag_s >= self._settings.loop_lag_s or queue_age_s >= self._settings.queue_age_s
        most = self._settings.requests
        if late and self._late and self.inside > self._least:
            self._limit = max(self._least, min(self._limit, self.inside) * DECREASE)
        elif not late:
            self._limit = min(most, self._limit + max(1.0, most * INCREASE))
        self._late = late

    def _headers(self) -> tuple[tuple[str, str], ...]:
        return (("retry-after", str(max(1, math.ceil(self._settings.retry_after_s)))),)
