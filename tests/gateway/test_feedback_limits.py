"""The two small parts of feedback that live in memory: the token bucket, and the answers that can still be rated."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.context import RequestContext, RouteRecord
from gateway.finishing import record_of
from gateway.rate import MAXIMUM_KEYS, RateLimit
from gateway.recent import Recent
from gateway.types import Endpoint, Grant
from tests.gateway.routing import CATALOG


class Clock:
    """Stands still until told."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


def record_for(request_id: str, key: str = "a", *, chosen: str | None = "a", status: int = 200) -> RouteRecord:
    context = RequestContext(request_id, Endpoint.CHAT, CATALOG, grant=Grant(key))
    context.chosen, context.status = chosen, status
    return record_of(context)


def test_bucket_gives_a_minutes_worth_at_once_then_one_by_one() -> None:
    clock = Clock()
    rate = RateLimit(30, clock)
    assert [rate.take("a") for _ in range(30)] == [0.0] * 30
    assert rate.take("a") == pytest.approx(2.0)
    clock.now += 1.5
    assert rate.take("a") == pytest.approx(0.5)
    clock.now += 0.5
    assert rate.take("a") == 0.0
    assert rate.take("a") > 0
    clock.now += 3_600
    assert [rate.take("a") > 0 for _ in range(31)] == [False] * 30 + [True]


def test_bucket_of_one_key_is_not_anothers() -> None:
    rate = RateLimit(1, Clock())
    assert (rate.take("a"), rate.take("b")) == (0.0, 0.0)
    assert rate.take("a") == pytest.approx(60.0)


@settings(max_examples=60, deadline=None)
@given(per_minute=st.integers(1, 500), steps=st.lists(st.floats(0, 5), min_size=1, max_size=300))
def test_bucket_never_gives_more_than_its_size_and_the_inflow(per_minute: int, steps: list[float]) -> None:
    clock = Clock()
    rate = RateLimit(per_minute, clock)
    given_out, started = 0, clock.now
    for step in steps:
        clock.now += step
        wait_s = rate.take("a")
        assert 0 <= wait_s <= 60 / per_minute + 1e-6
        given_out += wait_s == 0
        assert given_out <= per_minute + (clock.now - started) * per_minute / 60 + 1e-6


def test_bucket_forgets_keys_that_are_full_again() -> None:
    clock = Clock()
    rate = RateLimit(60, clock)
    for number in range(MAXIMUM_KEYS):
        rate.take(f"key-{number}")
    clock.now += 2
    rate.take("a")
    assert len(rate._full_at) == 1


def test_recent_keeps_the_last_and_lets_the_first_go() -> None:
    recent = Recent(3)
    for number in range(5):
        recent.note(record_for(f"r-{number}"))
    assert [recent.find("a", f"r-{n}") is not None for n in range(5)] == [False, False, True, True, True]
    assert len(recent) == 3


def test_recent_repeated_id_is_the_last_answer_and_one_entry() -> None:
    recent = Recent(2)
    for request_id, chosen in (("x", "a"), ("y", "a"), ("x", "b"), ("z", "a")):
        recent.note(record_for(request_id, chosen=chosen))
    found = recent.find("a", "x")
    assert found is not None
    assert found.expert == "b"
    assert (recent.find("a", "y"), len(recent)) == (None, 2)


def test_recent_same_id_of_another_key_shadows_nothing() -> None:
    recent = Recent(10)
    recent.note(record_for("x", "a", chosen="a"))
    recent.note(record_for("x", "b", chosen="b"))
    mine, theirs = recent.find("a", "x"), recent.find("b", "x")
    assert mine is not None
    assert theirs is not None
    assert (mine.expert, theirs.expert) == ("a", "b")
    assert recent.find("", "x") is None


@pytest.mark.parametrize(
    ("chosen", "status", "error"),
    [(None, 400, "invalid_request"), ("a", 502, "upstream_reset"), ("a", 400, "upstream_400"), ("a", 200, "broke")],
)
def test_recent_passes_over_what_was_not_answered(chosen: str | None, status: int, error: str) -> None:
    recent = Recent(10)
    context = RequestContext("x", Endpoint.CHAT, CATALOG)
    context.chosen, context.status, context.error = chosen, status, error
    recent.note(record_of(context))
    assert len(recent) == 0


def test_recent_says_when_the_answer_was_complete() -> None:
    recent = Recent(10)
    recent.note(record_for("x"))
    found = recent.find("a", "x")
    assert found is not None
    assert abs(datetime.now(UTC).timestamp() - found.finished_at) < 5
