"""What callers are told of limits, in OpenAI's form; and which experts are left near the end of a budget."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.callers import Grant
from gateway.errors import BudgetExhausted, RateLimited
from gateway.limits.downgrade import cheapest
from gateway.limits.telling import duration
from gateway.types import Candidate, Expert, Reason, Timeouts
from tests.limits.clocks import Clock, limits_of


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (0.0001, "1ms"),
        (0.12, "120ms"),
        (1, "1s"),
        (1.5, "1.5s"),
        (360, "6m0s"),
        (3_725.25, "1h2m5.25s"),
        (59.9999, "1m0s"),
    ],
)
def test_durations_are_written_as_openai_does(seconds: float, text: str) -> None:
    assert duration(seconds) == text


async def test_headers_stand_for_the_limits_there_are() -> None:
    clock = Clock()
    limits = limits_of(clock)
    assert (await limits.reserve(Grant("none"), "math", 5, None)).headers == ()
    only = await limits.reserve(Grant("one", rpm=60), "math", 5, None)
    assert dict(only.headers) == {
        "x-ratelimit-limit-requests": "60",
        "x-ratelimit-remaining-requests": "59",
        "x-ratelimit-reset-requests": "1s",
    }
    both = await limits.reserve(Grant("both", rpm=60, tpm=6_000), "math", 600, None)
    told = dict(both.headers)
    assert len(told) == 6
    assert (told["x-ratelimit-remaining-tokens"], told["x-ratelimit-reset-tokens"]) == ("5400", "6s")
    both.settle(1_200, None)
    clock.pass_s(1)
    assert dict(limits.headers(Grant("both", rpm=60, tpm=6_000)))["x-ratelimit-remaining-tokens"] == "4900"


async def test_refusals_say_when_again_and_whether_it_makes_sense() -> None:
    limits, grant = limits_of(Clock()), Grant("k", rpm=2, tpm=100, daily_budget=1)
    (await limits.reserve(grant, "math", 1, 0.9)).settle(1, 0.9)
    with pytest.raises(BudgetExhausted) as spent:
        await limits.reserve(grant, "math", 1, 0.2)
    headers = dict(spent.value.headers)
    assert (spent.value.status, spent.value.type, spent.value.code) == (429, "insufficient_quota", "insufficient_quota")
    assert (headers["x-should-retry"], headers["retry-after"]) == ("false", str(12 * 3_600))
    assert headers["x-ratelimit-remaining-requests"] == "1"
    with pytest.raises(RateLimited) as large:
        await limits.reserve(grant, "math", 101, 0)
    assert dict(large.value.headers)["x-should-retry"] == "false"
    assert "retry-after" not in dict(large.value.headers)
    await limits.reserve(grant, "math", 1, 0)
    with pytest.raises(RateLimited) as often:
        await limits.reserve(grant, "math", 1, 0)
    headers = dict(often.value.headers)
    assert (often.value.code, often.value.type) == ("rate_limit_exceeded", "rate_limit_error")
    assert (headers["retry-after"], "x-should-retry" in headers) == ("30", False)
    assert limits.counts.refused == {("key", "day"): 1, ("key", "tokens"): 1, ("key", "requests"): 1}


def expert(name: str) -> Expert:
    return Expert(name, name, (), (), frozenset(), frozenset(), Timeouts(1, 1, 1, 1))


@given(st.lists(st.one_of(st.none(), st.floats(0, 10)), min_size=1, max_size=8))
def test_cheapest_are_kept_and_the_others_named(costs: list[float | None]) -> None:
    candidates = [Candidate(expert(str(index)), None, cost) for index, cost in enumerate(costs)]
    kept, excluded = cheapest(candidates, {"down": Reason.UNHEALTHY})
    least = min(cost or 0 for cost in costs)
    assert kept
    assert all((candidate.cost or 0) == least for candidate in kept)
    assert len(kept) + len(excluded) == len(costs) + 1
    assert excluded["down"] is Reason.UNHEALTHY
    assert set(excluded.values()) <= {Reason.UNHEALTHY, Reason.BUDGET}
