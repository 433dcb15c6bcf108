"""What is expected of experts, and what traffic teaches about it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from gateway.budgets import DAY_S, Budgets
from gateway.context import RequestContext, RouteRecord
from gateway.estimates import Estimator
from gateway.finishing import record_of
from gateway.pace import FORGET_S, LEAST_ANSWERS, LEAST_SPEEDS, Pace
from gateway.types import Endpoint, Grant
from tests.gateway.routing import CATALOG, LABELS, catalog_of, expert, scores_of


def record(**fields: Any) -> RouteRecord:
    """A good answer of expert `a` in math, 100 tokens in 2 seconds."""
    empty = record_of(RequestContext("id", Endpoint.CHAT, CATALOG))
    good = {"chosen": "a", "status": 200, "domain": "math", "output_tokens": 100, "duration_s": 2.0, "overhead_s": 0.0}
    return replace(empty, **{**good, **fields})


def estimate(pace: Pace | None = None, scores: Any = None, **changes: Any) -> Any:
    """Estimate for 1,000 prompt tokens; answers have 500 tokens."""
    catalog = catalog_of(expert("a", "math", price=0.5), replace(expert("b", "coding"), price=None))
    estimator = Estimator(catalog, LABELS, None, pace or Pace(), 500)
    asked = {"prompt_tokens": 1000, "max_tokens": None, "answers": 1, "stream": False, **changes}
    return {c.expert.name: c for c in estimator.estimate(scores, **asked)}


def test_cost_is_tokens_at_the_experts_prices() -> None:
    found = estimate()
    assert found["generalist"].cost == pytest.approx(1500 / 1e6)
    assert found["a"].cost == pytest.approx(750 / 1e6)
    assert found["b"].cost is None
    assert all(c.quality is None and c.latency_s is None for c in found.values())


def test_max_tokens_and_several_answers_count() -> None:
    assert estimate(max_tokens=100)["generalist"].cost == pytest.approx(1100 / 1e6)
    assert estimate(max_tokens=9000)["generalist"].cost == pytest.approx(1500 / 1e6)
    assert estimate(answers=4)["generalist"].cost == pytest.approx(3000 / 1e6)


def test_typical_lengths_are_learned_by_domain() -> None:
    pace = Pace()
    for _ in range(LEAST_ANSWERS - 1):
        pace.note(record(output_tokens=60))
    math, coding = scores_of(0.9, 0.05, 0.05), scores_of(0.05, 0.9, 0.05)
    assert estimate(pace, math)["generalist"].cost == pytest.approx(1500 / 1e6)
    pace.note(record(output_tokens=60))
    assert estimate(pace, math)["generalist"].cost == pytest.approx(1060 / 1e6)
    assert estimate(pace, coding)["generalist"].cost == pytest.approx(1500 / 1e6)


@pytest.mark.parametrize("spoilt", [{"status": 502}, {"error": "upstream_reset"}, {"output_tokens": None}])
def test_failed_requests_teach_nothing(spoilt: Any) -> None:
    pace = Pace()
    for _ in range(100):
        pace.note(record(**spoilt))
    assert pace.completion_tokens("math", 500) == 500
    assert pace.latency_s("a", 100, stream=False) is None


def test_latency_is_time_to_the_answer_or_to_the_first_token_of_a_stream() -> None:
    plain, streamed, both = Pace(), Pace(), Pace()
    for _ in range(LEAST_SPEEDS):
        assert plain.latency_s("a", 50, stream=False) is None
        for pace in (plain, both):
            pace.note(record())
        for pace in (streamed, both):
            pace.note(record(stream=True, time_to_first_byte_s=0.5, overhead_s=0.1, duration_s=2.5))
    assert plain.latency_s("a", 50, stream=False) == pytest.approx(1.0)
    assert plain.latency_s("a", 50, stream=True) is None
    assert streamed.latency_s("a", 50, stream=True) == pytest.approx(0.4)
    assert streamed.latency_s("a", 50, stream=False) == pytest.approx(1.4)
    assert both.latency_s("a", 50, stream=False) == pytest.approx(1.0)
    assert both.latency_s("b", 50, stream=False) is None


def test_speed_is_forgotten_when_nothing_was_heard_for_a_minute() -> None:
    """An expert that was late once gets no requests while that counts, so it must not count for ever."""
    clock = [1000.0]
    pace = Pace(lambda: clock[0])
    for _ in range(50):
        pace.note(record(duration_s=60.0))
    assert pace.latency_s("a", 100, stream=False) == pytest.approx(60)
    clock[0] += FORGET_S + 1
    assert pace.latency_s("a", 100, stream=False) is None
    for _ in range(LEAST_SPEEDS):
        pace.note(record(duration_s=2.0))
    assert pace.latency_s("a", 100, stream=False) == pytest.approx(2)


def test_time_that_failed_tries_took_is_not_the_rescuers() -> None:
    pace = Pace()
    for _ in range(10):
        pace.note(record(attempts=2, duration_s=60.0))
        pace.note(record(attempts=2, stream=True, time_to_first_byte_s=50.0, duration_s=60.0))
    assert pace.latency_s("a", 100, stream=False) is None
    assert pace.latency_s("a", 100, stream=True) is None
    assert pace.completion_tokens("math", 500) == 100


def test_several_answers_count_each_with_its_own_length() -> None:
    pace = Pace()
    for _ in range(LEAST_ANSWERS):
        pace.note(record(output_tokens=40), answers=4)
    assert pace.completion_tokens("math", 500) == 10


def test_server_that_becomes_slow_is_noticed() -> None:
    pace = Pace()
    for _ in range(1000):
        pace.note(record())
    for _ in range(100):
        pace.note(record(duration_s=20.0))
    found = pace.latency_s("a", 100, stream=False)
    assert found is not None
    assert 10 < found < 20


def test_budget_counts_by_key_and_day() -> None:
    now = datetime(2026, 11, 25, 23, 59, tzinfo=UTC).timestamp()
    clock = [now]
    budgets = Budgets(lambda: clock[0])
    grant = Grant("k", daily_budget=1.0)
    assert budgets.left(Grant()) is None
    assert budgets.left(grant) == 1.0
    budgets.note("k", 0.25)
    budgets.note("other", 0.5)
    budgets.note("k", None)
    assert budgets.left(grant) == 0.75
    budgets.note("k", 5)
    assert budgets.left(grant) == 0
    assert budgets.resets_in_s() == 60
    clock[0] += 60
    assert (budgets.left(grant), budgets.resets_in_s()) == (1.0, DAY_S)
