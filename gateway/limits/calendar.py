"""Which day and which month it is, for budgets. Knows no money."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from gateway.limits.contract import DAY_S

# A clock that is set back by up to this much does not bring yesterday back: its budget was settled already.
STEADY_S = 7_200.0


def utc_now() -> float:
    """Return seconds since the epoch; a tenth of the time that a `datetime` takes, and every request asks twice."""
    return time.clock_gettime(time.CLOCK_REALTIME)


class Calendar:
    """Days since the epoch and months since the year 0, in UTC.

    Args:
        clock: seconds since the epoch; it may jump.
    """

    __slots__ = ("_clock", "_next", "_since", "day", "month")

    def __init__(self, clock: Callable[[], float] = utc_now) -> None:
        self._clock = clock
        self._since = self._next = 0.0
        self.day = self.month = -1
        self.turn()

    def turn(self) -> None:
        """Bring `day` and `month` up to date."""
        now = self._clock()
        if self._since - STEADY_S <= now < self._next:
            return
        self.day = int(now // DAY_S)
        self._since, self._next = float(self.day * DAY_S), float((self.day + 1) * DAY_S)
        self.month = month_of(self.day)

    def day_left_s(self) -> float:
        """Seconds to the next day, at least 1."""
        return max(1.0, self._next - self._clock())

    def month_left_s(self) -> float:
        """Seconds to the next month, at least 1."""
        return max(1.0, first_day(self.month + 1) * DAY_S - self._clock())


def month_of(day: int) -> int:
    """Return the month that a day is in: twelve times the year plus 0 to 11."""
    date = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(days=day)
    return date.year * 12 + date.month - 1


def first_day(month: int) -> int:
    """Return the first day of a month, as days since the epoch."""
    start = datetime(month // 12, month % 12 + 1, 1, tzinfo=UTC)
    return (start - datetime(1970, 1, 1, tzinfo=UTC)).days
