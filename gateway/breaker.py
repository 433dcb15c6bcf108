"""Says whether a server is worth a request, by what became of those before. Sends nothing and asks nobody.

Only what real requests saw opens and closes a breaker. vLLM's `/health` stays 200 while it drains or cannot
generate, so an active check that passes closes nothing; one that fails keeps a breaker open. Failures that we see
(no connection, reset, timeout) and those that the server tells (5xx, error object in a stream, broken body) are
counted apart; 4xx count as nothing at all, because a dead engine still answers them. 429 and 503 are a third thing:
the server is well and busy.

Source: Envoy, "Outlier detection" and "Slow start mode"; Traefik's circuit breaker for the order of the states.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from enum import IntEnum, StrEnum
from math import ceil, inf

from gateway.causes import Cause, Causes
from gateway.settings.reliability import BreakerSettings
from gateway.window import Window

SMALLEST_SHARE = 0.1
MOST_DOUBLINGS = 5


class BreakerState(StrEnum):
    """One closed set for metrics, logs and pages."""

    CLOSED = "closed"
    """Requests go there."""
    OPEN = "open"
    """Ejected for some time."""
    HALF_OPEN = "half_open"
    """One request may try it."""


class Failure(StrEnum):
    """Who saw a request fail."""

    LOCAL = "local"
    """We: no connection, a reset, nothing in time, a stream that stopped."""
    SERVER = "server"
    """The server said so: 5xx, an error object, an answer that is none."""


class Why(StrEnum):
    """What opened a breaker."""

    LOCAL_FAILURES = "local_failures"
    SERVER_FAILURES = "server_failures"
    FAILURE_SHARE = "failure_share"
    PROBE = "probe"
    """The request that tried the server again failed."""


class Rank(IntEnum):
    """The order in which an expert's servers are asked. All of them are: when nobody is left, trying beats refusing."""

    PROBE = 0
    """Its ejection is over, and one request should try it; behind the others it would get none."""
    USABLE = 1
    SATURATED = 2
    EJECTED = 3


class Trial:
    """One request at a server; end it with what became of it. Once it has ended, further calls do nothing.

    `close` without any other word says that nothing was learnt: the client left, or the answer was a 4xx.
    """

    __slots__ = ("_breaker", "epoch", "probe")

    def __init__(self, breaker: Breaker, epoch: int, *, probe: bool) -> None:
        self._breaker: Breaker | None = breaker
        self.epoch = epoch
        self.probe = probe

    def began(self) -> None:
        """Note that the answer has begun: it may go on for minutes, and a breaker need not wait for its end."""
        if self._breaker is not None:
            self._breaker.began(self)

    def succeeded(self) -> None:
        """Note that the answer is complete."""
        breaker, self._breaker = self._breaker, None
        if breaker is not None:
            breaker.succeeded(self)

    def failed(self, failure: Failure, cause: Cause | None = None) -> None:
        """Note that the request of this cause got no answer, or one that broke in the middle."""
        breaker, self._breaker = self._breaker, None
        if breaker is not None:
            breaker.failed(self, failure, cause)

    def saturated(self, retry_after_s: float | None) -> None:
        """Note that the server is busy, and for how long if it said so."""
        breaker, self._breaker = self._breaker, None
        if breaker is not None:
            breaker.saturated(self, retry_after_s)

    def close(self) -> None:
        """Give a probe's place back."""
        breaker, self._breaker = self._breaker, None
        if breaker is not None:
            breaker.left(self)


class Breaker:
    """What is known of one server from its requests; for the event loop only.

    Args:
        settings: the limits.
        spare: whether somebody else can take the server's work. Only then a server is ejected for failing often; the
            last one is not, half of its answers are better than none. One that fails always is ejected in any case:
            then the decision's fallbacks answer.
        changed: called with the new state, and why when it is `open`.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        settings: BreakerSettings,
        *,
        spare: Callable[[], bool] = lambda: False,
        changed: Callable[[BreakerState, Why | None], None] = lambda state, why: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._spare = spare
        self._changed = changed
        self._clock = clock
        self._window, self._causes = Window(settings.window_s), Causes(settings.window_s)
        self._doubted: Callable[[int], None] = lambda epoch: None
        self._in_a_row = dict.fromkeys(Failure, 0)
        self._epoch = 0
        self._open_until: float | None = None
        self._why: Why | None = None
        self._closed_at = clock()
        self._ejections = 0
        self._probing = self._check_failed = False
        self._proven = True
        self._ramp_from = -inf
        self._busy_until = -inf
        self._busy_in_a_row = 0

    @property
    def state(self) -> BreakerState:
        """The state now."""
        if self._open_until is None:
            return BreakerState.CLOSED
        waiting = self._check_failed or self._clock() < self._open_until
        return BreakerState.OPEN if waiting else BreakerState.HALF_OPEN

    @property
    def rank(self) -> Rank:
        """How willingly the server is asked."""
        busy = self._busy_until > self._clock()
        if self._open_until is None:
            return Rank.SATURATED if busy else Rank.USABLE
        if self._probing or self.state is BreakerState.OPEN:
            return Rank.EJECTED
        return Rank.SATURATED if busy else Rank.PROBE

    @property
    def busy_s(self) -> float:
        """Seconds for which the server asked to be left alone; 0 when it did not."""
        return max(0.0, self._busy_until - self._clock())

    @property
    def share(self) -> float:
        """Share of its usual load that the server should get: 0.1 when it has just come back, growing to 1."""
        passed = (self._clock() - self._ramp_from) / self._settings.ramp_s
        return min(1.0, max(SMALLEST_SHARE, passed))

    @property
    def ejections(self) -> int:
        """Ejections that are not forgotten yet; the present one's length is a multiple of it."""
        return self._ejections

    @property
    def why(self) -> Why | None:
        """What the last ejection was for; None when there was none, or the server has answered since."""
        return self._why

    @property
    def open_until(self) -> float | None:
        """When the present ejection ends, by the breaker's clock; None while there is none."""
        return self._open_until

    def configure(
        self,
        settings: BreakerSettings,
        spare: Callable[[], bool],
        changed: Callable[[BreakerState, Why | None], None] | None = None,
        doubted: Callable[[int], None] = lambda epoch: None,
    ) -> None:
        """Take other limits; what is known of the server stays.

        `doubted` is called with the epoch of an ejection that one caller's requests may have caused; see `cleared`.
        """
        if settings.window_s != self._settings.window_s:
            self._window, self._causes = Window(settings.window_s), Causes(settings.window_s)
        self._settings, self._spare, self._doubted = settings, spare, doubted
        self._changed = changed or self._changed

    def begin(self) -> Trial:
        """Send a request: to a server of any rank, the caller has its reasons."""
        probe = self.state is BreakerState.HALF_OPEN and not self._probing
        self._probing = self._probing or probe
        return Trial(self, self._epoch, probe=probe)

    def ramp(self) -> None:
        """Begin with a small share: the server is new, or was down and is back."""
        self._ramp_from, self._busy_until = self._clock(), -inf

    def checked(self, passed: bool) -> None:
        """Note an active check.

        A server that was seen down and is back has restarted: its first ejection ends then. Later ones run their
        time, or a server that flaps would be tried at each of its ups.
        """
        if self._open_until is not None and passed and self._check_failed and self._ejections <= 1:
            self._open_until = min(self._open_until, self._clock())
        self._check_failed = not passed

    def began(self, trial: Trial) -> None:
        """See `Trial.began`."""
        if trial.epoch == self._epoch and self._open_until is not None:
            self._close()
            # Should it break later, it counts for the state that it has made.
            trial.epoch, trial.probe = self._epoch, True

    def succeeded(self, trial: Trial) -> None:
        """See `Trial.succeeded`. What began before the last change of state says nothing of this one."""
        self.began(trial)
        if trial.epoch == self._epoch:
            self._window.add(self._clock(), failed=False)
            self._in_a_row = dict.fromkeys(Failure, 0)
            self._proven, self._busy_in_a_row = True, 0

    def failed(self, trial: Trial, failure: Failure, cause: Cause | None = None) -> None:
        """See `Trial.failed`."""
        if trial.epoch != self._epoch:
            return
        if self._open_until is not None:
            # Who came as a last resort prolongs nothing.
            if trial.probe:
                self._open(Why.PROBE)
            return
        now = self._clock()
        self._window.add(now, failed=True)
        self._causes.note(cause if failure is Failure.SERVER else None, now)
        self._in_a_row[failure] += 1
        if (why := self._why_open(trial)) is not None:
            self._open(why)
            told = failure is Failure.SERVER and why is not Why.PROBE
            if told and not self._causes.independent(self._settings.server_failures, now):
                self._doubted(self._epoch)

    def cleared(self, epoch: int) -> None:
        """End an ejection that was in doubt, as if it had not been: the server answers others."""
        if epoch == self._epoch and self._open_until is not None:
            self._ejections -= 1
            self._close()
            self._proven, self._ramp_from = True, -inf

    def saturated(self, trial: Trial, retry_after_s: float | None) -> None:
        """See `Trial.saturated`."""
        self.left(trial)
        now, settings = self._clock(), self._settings
        if now >= self._busy_until:
            self._busy_in_a_row = min(self._busy_in_a_row + 1, MOST_DOUBLINGS + 1)
        # A server that says "now" to those whom it refuses says nothing; neither does NaN.
        doubled_s = settings.busy_s * 2 ** (self._busy_in_a_row - 1)
        rest_s = retry_after_s if retry_after_s is not None and retry_after_s > 0 else doubled_s
        self._busy_until = max(self._busy_until, now + min(rest_s, settings.longest_busy_s))

    def left(self, trial: Trial) -> None:
        """See `Trial.close`."""
        if trial.probe and trial.epoch == self._epoch and self._open_until is not None:
            self._probing = False

    def _why_open(self, trial: Trial) -> Why | None:
        settings = self._settings
        if trial.probe and not self._proven:
            return Why.PROBE
        if self._in_a_row[Failure.LOCAL] >= settings.local_failures:
            return Why.LOCAL_FAILURES
        if self._in_a_row[Failure.SERVER] >= settings.server_failures:
            return Why.SERVER_FAILURES
        requests, failures = self._window.totals(self._clock())
        often = requests >= settings.minimum_requests and failures >= settings.failure_share * requests
        return Why.FAILURE_SHARE if often and self._spare() else None

    def _open(self, why: Why) -> None:
        now, settings = self._clock(), self._settings
        if self._open_until is None:
            self._ejections = max(0, self._ejections - int((now - self._closed_at) / settings.forget_s))
        # Counting on beyond the longest would only make it slow to forget.
        most = ceil(settings.longest_ejection_s / settings.ejection_s)
        self._ejections = min(self._ejections + 1, most)
        self._open_until = now + min(settings.ejection_s * self._ejections, settings.longest_ejection_s)
        self._check_failed = False
        self._change(BreakerState.OPEN, why)

    def _close(self) -> None:
        self._open_until, self._closed_at = None, self._clock()
        self._check_failed = self._proven = False
        self.ramp()
        self._change(BreakerState.CLOSED, None)

    def _change(self, state: BreakerState, why: Why | None) -> None:
        self._epoch += 1
        self._why = why
        self._probing = False
        self._window.clear()
        self._in_a_row = dict.fromkeys(Failure, 0)
        self._changed(state, why)
