"""Limits counted in one process: all or nothing, settled once, never over, nothing leaked or forgotten."""

from __future__ import annotations

import asyncio
import math
import random
import time
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.callers import Grant
from gateway.errors import BudgetExhausted, PointsmanError, RateLimited
from gateway.limits.limits import Limits
from gateway.settings.quotas import QuotaSettings
from tests.limits.clocks import Clock, limits_of


async def admitted(limits: Limits, grant: Grant, count: int, cost: float | None = None, tokens: int = 0) -> int:
    """How many of `count` concurrent requests are let in; each is settled as estimated."""

    async def one() -> bool:
        await asyncio.sleep(random.random() / 100)
        try:
            reservation = await limits.reserve(grant, "math", tokens, cost)
        except (RateLimited, BudgetExhausted):
            return False
        with reservation:
            await asyncio.sleep(random.random() / 100)
            reservation.settle(tokens, cost)
        return True

    return sum(await asyncio.gather(*(one() for _ in range(count))))


@pytest.mark.parametrize(
    ("grant", "cost", "tokens"),
    [
        (Grant("k", daily_budget=1.0), 0.01, 0),
        (Grant("k", monthly_budget=10.0), 0.1, 0),
        (Grant("k", rpm=100), None, 0),
        (Grant("k", tpm=70_000), None, 700),
        (Grant("k", rpm=500, tpm=10_000, daily_budget=3, monthly_budget=0.03), 0.0003, 100),
    ],
)
async def test_thousand_concurrent_requests_against_a_limit_for_hundred(
    grant: Grant, cost: float | None, tokens: int
) -> None:
    limits = limits_of(Clock())
    assert await admitted(limits, grant, 1_000, cost, tokens) == 100
    assert limits.accounts.running == 0


async def test_as_many_run_at_once_as_may() -> None:
    limits, running, most = limits_of(Clock()), 0, 0
    grant = Grant("k", concurrent=7)

    async def one() -> bool:
        nonlocal running, most
        try:
            with await limits.reserve(grant, "math", 1, None):
                running += 1
                most = max(most, running)
                await asyncio.sleep(0.001)
                running -= 1
        except RateLimited:
            return False
        return True

    done = await asyncio.gather(*(one() for _ in range(200)))
    assert (most, sum(done)) == (7, 7)
    assert await one()


@given(
    cents=st.integers(0, 300),
    requests=st.integers(1, 40),
    tokens=st.integers(1, 5_000),
    steps=st.lists(
        st.tuples(
            st.sampled_from(["reserve", "settle", "cancel", "wait"]),
            st.integers(0, 9),
            st.integers(0, 60),
            st.integers(0, 900),
            st.floats(0, 30),
        ),
        max_size=80,
    ),
)
@settings(deadline=None)
def test_no_sequence_of_steps_overspends(
    cents: int, requests: int, tokens: int, steps: list[tuple[str, int, int, int, float]]
) -> None:
    """Used plus reserved is never over, by a model that keeps every request; and what fits is let in."""

    async def run() -> None:
        clock = Clock()
        limits = limits_of(clock)
        grant = Grant("k", rpm=requests, tpm=tokens, daily_budget=cents / 100)
        spent, level, drops, at = 0, 0.0, 0.0, clock.mono
        running: list[tuple[Any, int, int]] = []
        for step, index, price, size, passed in steps:
            level = max(0.0, level - (clock.mono - at) * requests / 60)
            drops = max(0.0, drops - (clock.mono - at) * tokens / 60)
            at = clock.mono
            if step == "wait":
                clock.pass_s(passed)
            elif step == "reserve":
                over = (price and spent + price > cents) or level + 1 > requests or drops + size > tokens
                close = abs(level + 1 - requests) < 1e-5 or abs(drops + size - tokens) < 1e-5
                try:
                    running.append((await limits.reserve(grant, "x", size, price / 100), size, price))
                except PointsmanError:
                    assert over or close
                else:
                    assert not over or close
                    spent, level, drops = spent + price, level + 1, drops + size
            elif running:
                reservation, size, price = running.pop(index % len(running))
                used = 0 if step == "cancel" else min(size, index * 50)
                cost = 0 if step == "cancel" else min(price, index)
                reservation.settle(used, cost / 100)
                spent, drops = spent - price + cost, max(0.0, drops - size + used)
            assert spent <= cents
            assert limits.left(grant) == pytest.approx((cents - spent) / 100)

    asyncio.run(run())


async def test_refused_request_takes_nothing_of_any_limit() -> None:
    limits = limits_of(Clock(), experts={"math": {"requests_per_minute": 1}})
    grant = Grant("k", rpm=10, tpm=1_000, concurrent=5, daily_budget=1)
    (await limits.reserve(grant, "math", 10, 0.1)).settle(10, 0.1)
    before = limits.accounts.standings(limits.terms_of(grant)), limits.left(grant)
    for _ in range(20):
        with pytest.raises(RateLimited, match="expert `math`"):
            await limits.reserve(grant, "math", 10, 0.1)
    assert (limits.accounts.standings(limits.terms_of(grant)), limits.left(grant)) == before
    await limits.reserve(grant, "coding", 10, 0.1)


async def test_settling_counts_once_and_leaving_keeps_the_estimate() -> None:
    limits, grant = limits_of(Clock()), Grant("k", tpm=1_000, daily_budget=1)
    with await limits.reserve(grant, "math", 600, 0.5) as first:
        first.settle(100, 0.2)
        first.settle(0, 0)
    assert limits.left(grant) == pytest.approx(0.8)
    with pytest.raises(ValueError, match="lost"), await limits.reserve(grant, "math", 600, 0.5):
        raise ValueError("the client was lost")
    assert limits.left(grant) == pytest.approx(0.3)
    assert limits.accounts.standings(limits.terms_of(grant))[0].remaining == 300


async def test_dearer_answer_than_expected_is_charged_and_lets_nobody_in_until_paid() -> None:
    clock = Clock()
    limits, grant = limits_of(clock), Grant("k", tpm=600, daily_budget=1)
    (await limits.reserve(grant, "math", 100, 0.1)).settle(10**9, 3)
    assert limits.left(grant) == 0
    with pytest.raises(BudgetExhausted):
        await limits.reserve(grant, "math", 1, 0.001)
    clock.pass_s(9 * 60)
    with pytest.raises(RateLimited):
        await limits.reserve(grant, "math", 1, 0)
    clock.pass_s(61)
    await limits.reserve(grant, "math", 1, 0)


@pytest.mark.parametrize("odd", [math.nan, math.inf, -math.inf, -5, 0, None, 1e300])
async def test_odd_estimates_and_usages_break_nothing(odd: float | None) -> None:
    limits, grant = limits_of(Clock()), Grant("k", rpm=5, tpm=10**9, daily_budget=10**6)
    try:
        reservation = await limits.reserve(grant, "math", odd or 0, odd)
    except PointsmanError:
        assert odd in (math.inf, 1e300)
        reservation = await limits.reserve(grant, "math", 1, 1)
    reservation.settle(odd, odd)
    left = limits.left(grant)
    assert left is not None
    assert 0 <= left <= 10**6
    (await limits.reserve(replace(grant, name="other"), "math", 1, 1)).settle(1, 1)


async def test_free_expert_answers_after_the_budget_is_spent() -> None:
    limits, grant = limits_of(Clock()), Grant("k", daily_budget=0)
    with pytest.raises(BudgetExhausted):
        await limits.reserve(grant, "math", 5, 0.000_000_1)
    for cost in (None, 0.0):
        await limits.reserve(grant, "math", 5, cost)


async def test_request_that_never_ends_gives_its_place_back_and_keeps_its_money() -> None:
    clock = Clock()
    limits = limits_of(clock, hold_s=60)
    grant = Grant("k", concurrent=2, daily_budget=1)
    lost = [await limits.reserve(grant, "math", 1, 0.1) for _ in range(2)]
    clock.pass_s(59)
    with pytest.raises(RateLimited):
        limits.check(grant)
    clock.pass_s(1)
    limits.check(grant)
    await limits.reserve(grant, "math", 1, 0.1)
    assert limits.accounts.expired == 2
    assert limits.left(grant) == pytest.approx(0.7)
    lost[0].settle(0, 0)
    assert limits.left(grant) == pytest.approx(0.8)
    await limits.reserve(grant, "math", 1, 0.1)
    with pytest.raises(RateLimited):
        await limits.reserve(grant, "math", 1, 0.1)


async def test_limits_come_back_as_time_passes() -> None:
    clock = Clock()
    limits, grant = limits_of(clock), Grant("k", rpm=60)
    for _ in range(60):
        await limits.reserve(grant, "math", 0, None)
    with pytest.raises(RateLimited) as refused:
        await limits.reserve(grant, "math", 0, None)
    assert ("retry-after", "1") in refused.value.headers
    clock.pass_s(1)
    await limits.reserve(grant, "math", 0, None)
    with pytest.raises(RateLimited):
        limits.check(grant)
    clock.pass_s(3_600)
    assert limits.accounts.standings(limits.terms_of(grant))[0].remaining == 60


async def test_days_and_months_begin_anew() -> None:
    clock = Clock(wall=1_796_083_200 - 60)  # 2026-12-01 less a minute
    limits, grant = limits_of(clock), Grant("k", daily_budget=1, monthly_budget=1.5)
    late = await limits.reserve(grant, "math", 1, 1)
    with pytest.raises(BudgetExhausted, match="today"):
        await limits.reserve(grant, "math", 1, 0.4)
    assert limits.resets_in_s(grant) == 60
    clock.pass_s(60)
    assert limits.left(grant) == 1
    late.settle(1, 0.5)  # the old day's: nobody gets a credit
    assert limits.left(grant) == 1
    for cost in (1.0, 0.5):
        clock.pass_s(86_400)
        await limits.reserve(grant, "math", 1, cost)
        assert limits.left(grant) == 0
    with pytest.raises(BudgetExhausted, match="month"):
        await limits.reserve(grant, "math", 1, 0.1)
    assert limits.resets_in_s(grant) == 29 * 86_400


async def test_keys_are_apart_and_experts_are_everybodys() -> None:
    limits = limits_of(Clock(), experts={"math": {"concurrent_requests": 3}})
    for name in "abc":
        await limits.reserve(Grant(name, concurrent=1), "math", 1, None)
    assert limits.full_experts() == {"math"}
    with pytest.raises(RateLimited, match="expert"):
        await limits.reserve(Grant("d"), "math", 1, None)
    await limits.reserve(Grant("d"), "coding", 1, None)


async def test_keys_own_limits_go_before_the_default_and_change_with_the_key() -> None:
    limits = limits_of(Clock(), default={"requests_per_minute": 1})
    await limits.reserve(Grant("a"), "math", 1, None)
    with pytest.raises(RateLimited):
        await limits.reserve(Grant("a"), "math", 1, None)
    await limits.reserve(Grant("a", rpm=2), "math", 1, None)
    limits.configure(QuotaSettings())
    await limits.reserve(Grant("a"), "math", 1, None)


async def test_share_of_the_budget_decides_on_the_cheapest() -> None:
    limits = limits_of(Clock(), downgrade_at=0.8)
    grant = Grant("k", daily_budget=10, monthly_budget=15)
    assert (limits.near(Grant("x")), limits.near(grant), limits.thrifty(Grant("x"))) == (0.0, 0.0, False)
    await limits.reserve(grant, "math", 1, 7.5)
    assert (limits.near(grant), limits.thrifty(grant)) == (0.75, False)
    await limits.reserve(grant, "math", 1, 0.5)
    assert limits.thrifty(grant)
    assert limits.near(Grant("none", daily_budget=0)) == 1.0


async def test_idle_keys_are_forgotten_and_those_with_money_are_not() -> None:
    clock = Clock()
    limits = limits_of(clock)
    spender, slow = Grant("spender", daily_budget=1), Grant("slow", concurrent=1)
    (await limits.reserve(spender, "math", 1, 0.4)).settle(1, 0.4)
    await limits.reserve(slow, "math", 1, None)
    for number in range(20_000):
        (await limits.reserve(Grant(f"k{number}", rpm=5, tpm=10), "math", 10, None)).settle(10, None)
        clock.pass_s(1)
        limits.accounts.hold_s = 1e9
    assert len(limits.accounts) < 2_000
    assert limits.left(spender) == pytest.approx(0.6)


async def test_reserving_and_settling_is_cheap() -> None:
    limits = Limits(QuotaSettings.model_validate({"experts": {"math": {"tokens_per_minute": 10**10}}}))
    grant = Grant("k", rpm=10**7, tpm=10**10, concurrent=100, daily_budget=10**6, monthly_budget=10**6)
    best = math.inf
    for _ in range(100):
        started = time.process_time()
        for _ in range(100):
            (await limits.reserve(grant, "math", 500, 0.001)).settle(400, 0.0009)
        best = min(best, (time.process_time() - started) / 100)
    assert best < 40e-6  # 7 us on the machine it was written on; others are slower and busier
