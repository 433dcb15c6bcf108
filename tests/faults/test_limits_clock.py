"""D10: the clock jumps. Limits by minute do not care, and no budget is given twice."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.callers import Grant
from gateway.errors import BudgetExhausted, RateLimited
from gateway.limits.calendar import Calendar, first_day, month_of
from tests.limits.clocks import Clock, limits_of

MIDNIGHT = datetime(2026, 12, 1, tzinfo=UTC).timestamp()


@pytest.mark.parametrize("jump_s", [3_600, -3_600, 86_400, -86_400])
async def test_d10_limits_by_minute_go_by_the_other_clock(jump_s: float) -> None:
    clock = Clock()
    limits, grant = limits_of(clock), Grant("k", rpm=60, concurrent=70)
    for _ in range(60):
        await limits.reserve(grant, "math", 0, None)
    clock.wall += jump_s
    with pytest.raises(RateLimited):
        await limits.reserve(grant, "math", 0, None)
    assert limits.accounts.running == 60
    clock.mono += 1
    await limits.reserve(grant, "math", 0, None)


async def test_d10_hour_back_over_midnight_brings_no_budget_back() -> None:
    clock = Clock(wall=MIDNIGHT - 1_800)
    limits, grant = limits_of(clock), Grant("k", daily_budget=1, monthly_budget=1)
    await limits.reserve(grant, "math", 1, 1)
    clock.wall += 3_600
    await limits.reserve(grant, "math", 1, 1)  # it is tomorrow, as far as anybody can tell
    for jump_s in (-3_600, 3_600, -3_600):
        clock.wall += jump_s
        with pytest.raises(BudgetExhausted):
            await limits.reserve(grant, "math", 1, 0.1)
    assert limits.resets_in_s(grant) >= 1


async def test_d10_clock_far_in_the_future_is_no_trap() -> None:
    clock = Clock()
    limits, grant = limits_of(clock), Grant("k", daily_budget=1)
    clock.wall += 3_650 * 86_400
    await limits.reserve(grant, "math", 1, 1)
    clock.wall -= 3_650 * 86_400
    await limits.reserve(grant, "math", 1, 1)
    clock.pass_s(86_400)
    assert limits.left(grant) == 1


@given(st.lists(st.tuples(st.floats(0, 7_000), st.floats(-3_600, 3_600)), min_size=1, max_size=100))
@settings(deadline=None)
def test_d10_days_never_go_back_under_jumps_of_an_hour(steps: list[tuple[float, float]]) -> None:
    clock = Clock(wall=MIDNIGHT - 3_600)
    calendar, true_s, day = Calendar(lambda: clock.wall), clock.wall, -1
    for passed_s, off_s in steps:
        true_s += passed_s
        clock.wall = true_s + off_s
        calendar.turn()
        assert calendar.day >= day
        day = calendar.day
        assert calendar.month == month_of(day)
        assert calendar.day_left_s() >= 1


@given(st.integers(0, 80_000))
def test_months_begin_with_their_first_day(day: int) -> None:
    month = month_of(day)
    assert first_day(month) <= day < first_day(month + 1)
    assert month_of(first_day(month)) == month
    assert first_day(month) == day or month_of(day - 1) == month
