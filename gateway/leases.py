"""One server as it is known now, and the requests that are open there. Probes nothing and chooses nobody."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import UTC, datetime

from gateway.breaker import Breaker, Failure
from gateway.causes import Cause
from gateway.errors import (
    PointsmanError,
    UpstreamBadResponse,
    UpstreamBroke,
    UpstreamError,
    UpstreamReset,
    UpstreamTimeout,
    UpstreamUnreachable,
)
from gateway.limiter import Limiter, Place
from gateway.load import UNKNOWN, Load
from gateway.retry_after import retry_after_s
from gateway.settings.reliability import BreakerSettings, ConcurrencySettings
from gateway.upstream import UpstreamResponse
from gateway.window import Window

# All else (our key refused, a redirect, no such model, our own queue full) says nothing about the server's health.
_FAILURES: dict[type[PointsmanError], Failure] = {
    UpstreamUnreachable: Failure.LOCAL,
    UpstreamReset: Failure.LOCAL,
    UpstreamTimeout: Failure.LOCAL,
    UpstreamBroke: Failure.SERVER,
    UpstreamBadResponse: Failure.SERVER,
}
_BROKEN = frozenset({500, 502, 504})
_BUSY = frozenset({429, 503})


RECENT_S = 300.0
"""How far back the counts of tries look that administrators are shown."""


def _limiter() -> Limiter:
    limits = ConcurrencySettings()
    return Limiter(limits.requests, limits.queue, limits.queue_s)


@dataclass(frozen=True, slots=True)
class LastError:
    """What went wrong last at a server; for people, nothing is decided by it.

    Attributes:
        code: an error's code, or `status_503`; of a probe `health_timeout`, `health_status_503` or an error's code.
        at: when, UTC.
        by_probe: a check of ours saw it and no request.
    """

    code: str
    at: datetime
    by_probe: bool = False


@dataclass(slots=True)
class UpstreamState:
    """One server as we see it now.

    Attributes:
        disabled: an administrator switched it off: it gets no request, not even as a last resort.
        expected: served model names that experts of ours have at this server.
        models: served model names it lists; None while that is not known, which counts as having all.
        lengths: context limit in tokens by served model name.
        last_error: what went wrong last; None when nothing has since the start.
        recent: tries of the last `RECENT_S` seconds, and how many of them failed or found the server busy.
        probed_at: when the last probe ended, by the monotonic clock; None before the first.
        next_probe_at: when the next one begins.
    """

    url: str
    authorization: str | None = field(default=None, repr=False)
    up: bool = True
    disabled: bool = False
    inflight: int = 0
    failures: int = 0
    probes: int = 0
    expected: frozenset[str] = frozenset()
    models: frozenset[str] | None = None
    lengths: dict[str, int] = field(default_factory=dict)
    breaker: Breaker = field(default_factory=lambda: Breaker(BreakerSettings()), repr=False)
    limiter: Limiter = field(default_factory=_limiter, repr=False)
    load: Load = UNKNOWN
    last_error: LastError | None = None
    recent: Window = field(default_factory=lambda: Window(RECENT_S), repr=False)
    probed_at: float | None = None
    next_probe_at: float | None = None

    def went_wrong(self, code: str, *, by_probe: bool = False) -> None:
        """Note what went wrong; of a request it counts as a failed try."""
        self.last_error = LastError(code, datetime.now(UTC), by_probe)
        if not by_probe:
            self.recent.add(time.monotonic(), failed=True)

    def went_well(self) -> None:
        """Count a try that got its answer."""
        self.recent.add(time.monotonic(), failed=False)

    @property
    def share(self) -> float:
        """Share of its usual load that it should get."""
        return self.breaker.share

    def has(self, model: str) -> bool:
        """Tell whether it lists the model, or its list is not known."""
        return self.models is None or model in self.models

    @property
    def missing(self) -> frozenset[str]:
        """What it should have and does not list."""
        return frozenset() if self.models is None else self.expected - self.models


class Lease:
    """One request open at an upstream: counted from its making to its `close`, which also closes the answer.

    Attributes:
        response: the answer, once there is one.
    """

    __slots__ = ("_cause", "_place", "_state", "_trial", "response")

    def __init__(self, state: UpstreamState, place: Place, cause: Cause | None = None) -> None:
        self._cause = cause
        self._state: UpstreamState | None = state
        self._place = place
        self._trial = state.breaker.begin()
        self.response: UpstreamResponse | None = None
        state.inflight += 1

    def began(self) -> None:
        """Note that a stream has its first content."""
        self._trial.began()

    def ended(self, error: PointsmanError | None) -> None:
        """Note what became of the answer, None: it is complete; then close."""
        failure = next((failure for kind, failure in _FAILURES.items() if isinstance(error, kind)), None)
        if error is None:
            self._trial.succeeded()
        elif failure is not None:
            self._trial.failed(failure, self._cause)
        if self._state is not None:
            if error is None:
                self._state.went_well()
            elif isinstance(error, UpstreamError):
                self._state.went_wrong(error.code)
        self.close()

    def answered(self, status: int, retry_after: str | None) -> None:
        """Note the status of a plain answer, then close."""
        if status in _BUSY:
            self._trial.saturated(retry_after_s(retry_after, datetime.now(UTC)))
        elif status < 400:
            self._trial.succeeded()
        elif status in _BROKEN:
            self._trial.failed(Failure.SERVER, self._cause)
        if self._state is not None:
            if status in _BUSY or status >= 500:
                self._state.went_wrong(f"status_{status}")
            else:
                self._state.went_well()
        self.close()

    def close(self) -> None:
        """Give the place back; a second call does nothing."""
        if self._state is not None:
            self._state.inflight -= 1
            self._state = None
            self._trial.close()
            self._place.close()
            if self.response is not None:
                self.response.close()
