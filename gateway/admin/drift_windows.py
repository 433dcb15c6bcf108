"""The spans of time that drift compares: the last hour, day or week, and a reference week. Asks no store.

Traffic has its hours: an hour is compared with the same hours of seven days, anything longer with whole days. Weekdays
differ too, and stay in the comparison of a day: a reference that is chosen changes the week, not that.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from gateway.stores.records.rollups import DAY_S, HOUR_S, MINUTE_S

Name = Literal["hour", "day", "week"]
WEEK_DAYS = 7
DAYS = 28
"""How many days are shown one by one."""
# What rollups are read of what is looked at: the unit that has begun counts whole.
_STEPS: dict[Name, int] = {"hour": MINUTE_S, "day": HOUR_S, "week": DAY_S}
_LENGTHS: dict[Name, int] = {"hour": HOUR_S, "day": DAY_S, "week": WEEK_DAYS * DAY_S}


@dataclass(frozen=True, slots=True)
class Span:
    """From when on and before when, seconds since the epoch."""

    since_s: int
    until_s: int


@dataclass(frozen=True, slots=True)
class Window:
    """Some spans of time, the earliest first, at least one.

    Attributes:
        spans: which.
        step_s: what rollups they are read of: 60, 3600 or 86400. Coarser ones are fewer.
    """

    spans: tuple[Span, ...]
    step_s: int

    @property
    def since_s(self) -> int:
        """Return when the first one begins."""
        return self.spans[0].since_s

    @property
    def until_s(self) -> int:
        """Return when the last one ends."""
        return self.spans[-1].until_s

    def overlaps(self, other: Window) -> bool:
        """Tell whether some time is in both."""
        return any(a.since_s < b.until_s and b.since_s < a.until_s for a in self.spans for b in other.spans)


def windows(name: Name, now_s: int, reference_s: int | None = None) -> tuple[Window, Window]:
    """Return what is looked at and its reference.

    Args:
        name: how long is looked at; it ends now and is up to a minute, an hour or a day short of its name.
        now_s: seconds since the epoch.
        reference_s: when the reference week begins, cut to a whole day (UTC); None: so that it ends where what is
            looked at begins, or the day before.

    Returns:
        What is looked at, one span; and seven hours (or two hours each, that it touches) of seven days, or one span of
        seven whole days.
    """
    until_s, step_s = now_s + 1, _STEPS[name]
    since_s = max(0, -(-until_s // step_s) * step_s - _LENGTHS[name])
    first_s = since_s // DAY_S * DAY_S - WEEK_DAYS * DAY_S if reference_s is None else reference_s // DAY_S * DAY_S
    first_s = max(0, first_s)
    now = Window((Span(since_s, until_s),), step_s)
    if name != "hour":
        return now, Window((Span(first_s, first_s + WEEK_DAYS * DAY_S),), DAY_S)
    start_s = first_s + since_s // HOUR_S * HOUR_S % DAY_S
    length_s = -(-until_s // HOUR_S) * HOUR_S - since_s // HOUR_S * HOUR_S
    starts = [start_s + day * DAY_S for day in range(WEEK_DAYS)]
    return now, Window(tuple(Span(start, start + length_s) for start in starts), HOUR_S)


def days_until(until_s: int) -> Window:
    """Return the last `DAYS` days, the begun one among them."""
    return Window((Span(max(0, until_s // DAY_S * DAY_S - (DAYS - 1) * DAY_S), until_s),), DAY_S)
