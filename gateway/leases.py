"""One server as it is known now, and the requests that are open there. Probes nothing and chooses nobody."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime

from gateway.breaker import Breaker, Failure
from gateway.errors import (
    PointsmanError,
    UpstreamBadResponse,
    UpstreamBroke,
    UpstreamReset,
    UpstreamTimeout,
    UpstreamUnreachable,
)
from gateway.limiter import Limiter, Place
from gateway.load import UNKNOWN, Load
from gateway.retry_after import retry_after_s
from gateway.settings.reliability import BreakerSettings, ConcurrencySettings
from gateway.upstream import UpstreamResponse

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


def _limiter() -> Limiter:
    limits = ConcurrencySettings()
    return Limiter(limits.requests, limits.queue, limits.queue_s)


@dataclass(slots=True)
class UpstreamState:
    """One server as we see it now.

    Attributes:
        disabled: an administrator switched it off: it gets no request, not even as a last resort.
        expected: served model names that experts of ours have at this server.
        models: served model names it lists; None while that is not known, which counts as having all.
        lengths: context limit in tokens by served model name.
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

    __slots__ = ("_place", "_state", "_trial", "response")

    def __init__(self, state: UpstreamState, place: Place) -> None:
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
            self._trial.failed(failure)
        self.close()

    def answered(self, status: int, retry_after: str | None) -> None:
        """Note the status of a plain answer, then close."""
        if status in _BUSY:
            self._trial.saturated(retry_after_s(retry_after, datetime.now(UTC)))
        elif status < 400:
            self._trial.succeeded()
        elif status in _BROKEN:
            self._trial.failed(Failure.SERVER)
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
