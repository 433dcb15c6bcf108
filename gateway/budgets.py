"""What keys have spent today. Counts and answers; refusing is eligibility's business.

Only what has finished counts, so requests that run at the same moment can overspend by what they cost.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, datetime

from gateway.types import Grant

DAY_S = 86_400


class Budgets:
    """Money spent by key and day (UTC), in this process.

    Args:
        clock: seconds since the epoch.
    """

    def __init__(self, clock: Callable[[], float] = lambda: datetime.now(UTC).timestamp()) -> None:
        self._clock = clock
        self._day = self._today()
        self._spent: dict[str, float] = {}

    def note(self, key: str, cost: float | None) -> None:
        """Count what a key has spent."""
        if cost:
            self._turn()
            self._spent[key] = self._spent.get(key, 0.0) + cost

    def left(self, grant: Grant) -> float | None:
        """Return what a key may still spend today, never below 0; None without a budget."""
        if grant.daily_budget is None:
            return None
        self._turn()
        return max(0.0, grant.daily_budget - self._spent.get(grant.name, 0.0))

    def resets_in_s(self) -> int:
        """Return the seconds to the next day, at least 1."""
        return max(1, math.ceil((self._today() + 1) * DAY_S - self._clock()))

    def _turn(self) -> None:
        today = self._today()
        if today != self._day:
            self._day = today
            self._spent.clear()

    def _today(self) -> int:
        return int(self._clock() // DAY_S)
