"""How many requests may be at a further try at once, so that failures do not multiply the load. Tries nothing itself.

A budget's unit is held while the further try has not begun to answer: what is to be bounded is work that is asked
for again, and a stream that runs for minutes is not. A further try that finds no unit waits a little for one, because
a server that dies with a hundred requests must not cost most of them their answer. How long the whole may take is
the caller's deadline.

Source: Envoy, `RetryBudget` of circuit breakers: 20 % of the active requests, at least 3.
"""

from __future__ import annotations

from gateway.errors import UpstreamSaturated
from gateway.limiter import Limiter, Place
from gateway.settings.reliability import RetrySettings

MOST_WAITING = 100_000
"""Those who wait are running requests, whose number others bound."""


class Running:
    """One running request; a context manager."""

    __slots__ = ("_budget", "_unit")

    def __init__(self, budget: RetryBudget) -> None:
        self._budget = budget
        self._unit: Place | None = None

    def __enter__(self) -> Running:
        self._budget.change(1)
        return self

    def __exit__(self, *exc: object) -> None:
        self.began()
        self._budget.change(-1)

    async def retry(self, key: str = "", limit_s: float | None = None) -> bool:
        """Ask for a further try.

        Args:
            key: whose request it is; keys get units in turn.
            limit_s: longest wait, when it is shorter than the setting's.

        Returns:
            Whether it may be made. A request that had a unit for its try before keeps it.
        """
        if self._unit is None:
            self._unit = await self._budget.take(key, limit_s)
        return self._unit is not None

    def began(self) -> None:
        """Give the unit back: the try has begun to answer, or has ended."""
        if self._unit is not None:
            self._unit.close()
            self._unit = None


class RetryBudget:
    """The budget of one process.

    Attributes:
        active: running requests.
        exhausted: further tries that were refused so far.
    """

    def __init__(self, settings: RetrySettings) -> None:
        self._settings = settings
        self._units = Limiter(settings.minimum, MOST_WAITING, settings.wait_s)
        self.active = 0
        self.exhausted = 0

    @property
    def retries(self) -> int:
        """Units that are taken."""
        return self._units.running

    @property
    def waiting(self) -> int:
        """Further tries that wait for a unit."""
        return self._units.waiting

    @property
    def limit(self) -> int:
        """Units there are now."""
        return self._units.limit

    def configure(self, settings: RetrySettings) -> None:
        """Take other limits, after a change of the configuration."""
        self._settings = settings
        self._units.configure(self._limit(), MOST_WAITING, settings.wait_s)

    def running(self) -> Running:
        """Return a context manager that counts a request as running."""
        return Running(self)

    async def take(self, key: str, limit_s: float | None) -> Place | None:
        """Take a unit, waiting for it if need be; None when there was none in time. For `Running` only."""
        try:
            return await self._units.place(key, limit_s)
        except UpstreamSaturated:
            self.exhausted += 1
            return None

    def change(self, by: int) -> None:
        """Note that requests have come or gone; for `Running` only."""
        self.active += by
        self._units.limit = self._limit()

    def _limit(self) -> int:
        return max(self._settings.minimum, int(self._settings.share * self.active))
