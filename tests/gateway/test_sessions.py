"""How long sessions are remembered, in which order they go, and what becomes of one after an answer."""

from __future__ import annotations

from collections import OrderedDict

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from gateway.conversation import Conversation
from gateway.sessions import Session, SessionTable, continued
from gateway.settings import SessionSettings
from gateway.types import Decision, Reason
from tests.gateway.routing import CATALOG

MATH = Session("a", "math", 100, 1)


class Clock:
    """Stands until it is moved."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def turn(own: str, *earlier: str) -> Conversation:
    return Conversation(own.encode(), tuple(key.encode() for key in earlier), tool_loop=False, draw=0.0)


def test_new_conversation_is_unknown() -> None:
    assert SessionTable(10, 60).recall(turn("1")) is None


def test_longest_known_prefix_counts() -> None:
    table = SessionTable(10, 60)
    table.remember(turn("1"), MATH)
    table.remember(turn("2", "1"), Session("b"))
    assert table.recall(turn("3", "2", "1")) == Session("b")
    # The second turn got no answer, or was written anew.
    assert table.recall(turn("x", "2x", "1")) == MATH


def test_conversation_without_a_key_is_not_kept() -> None:
    table = SessionTable(10, 60)
    table.remember(turn(""), MATH)
    assert len(table) == 0


def test_idle_conversation_is_forgotten_and_a_used_one_is_not() -> None:
    clock = Clock()
    table = SessionTable(10, 60, clock)
    table.remember(turn("idle"), MATH)
    table.remember(turn("used"), MATH)
    clock.now = 59
    assert table.recall(turn("x", "used")) == MATH
    clock.now = 61
    assert table.recall(turn("x", "idle")) is None
    assert table.recall(turn("x", "used")) == MATH
    assert len(table) == 1


def test_idle_turns_make_room_as_new_ones_come() -> None:
    clock = Clock()
    table = SessionTable(100, 60, clock)
    for number in range(10):
        table.remember(turn(f"old {number}"), MATH)
    clock.now = 100
    for number in range(5):
        table.remember(turn(f"new {number}"), MATH)
    assert len(table) == 5


def test_least_recently_used_goes_first() -> None:
    table = SessionTable(2, 60)
    table.remember(turn("1"), MATH)
    table.remember(turn("2"), MATH)
    assert table.recall(turn("x", "1")) == MATH
    table.remember(turn("3"), MATH)
    assert [table.recall(turn("x", key)) for key in "123"] == [MATH, None, MATH]


@given(
    capacity=st.integers(1, 4),
    steps=st.lists(st.tuples(st.booleans(), st.sampled_from("abcdefg"), st.floats(0, 40)), max_size=40),
)
def test_table_is_the_plain_model_of_itself(capacity: int, steps: list[tuple[bool, str, float]]) -> None:
    clock = Clock()
    table = SessionTable(capacity, 60, clock)
    model: OrderedDict[str, tuple[float, Session]] = OrderedDict()
    for number, (is_answer, key, passed_s) in enumerate(steps):
        clock.now += passed_s
        used_at, expected = model.get(key, (0.0, None))
        if is_answer:
            expected = Session(f"{number}")
            table.remember(turn(key), expected)
        elif expected is not None and clock.now - used_at > 60:
            expected = None
            del model[key]
        if not is_answer:
            assert table.recall(turn("x", key)) == expected
        if expected is not None:
            model[key] = (clock.now, expected)
            model.move_to_end(key)
        if len(model) > capacity:
            model.popitem(last=False)
        assert len(table) <= capacity


def decision(reason: Reason, domain: str | None) -> Decision:
    return Decision(CATALOG.generalist, reason, domain=domain)


def test_session_after_an_answer_is_with_whoever_answered() -> None:
    first = continued(None, decision(Reason.CONFIDENT, "math"), "a", 120)
    assert first == Session("a", "math", 120, 1)
    assert continued(first, decision(Reason.CONFIDENT, "math"), "a", 300) == Session("a", "math", 300, 2)
    assert continued(first, decision(Reason.CONFIDENT, "math"), "generalist", 300).turns == 1


@pytest.mark.parametrize("reason", [Reason.SESSION, Reason.TOOL_LOCK])
def test_turn_that_stayed_does_not_move_the_subject(reason: Reason) -> None:
    assert continued(MATH, decision(reason, "general"), "a", 300).domain == "math"
    assert continued(MATH, decision(Reason.CONFIDENT, "coding"), "b", 300).domain == "coding"


def test_margin_grows_with_what_is_cached_up_to_its_limit() -> None:
    settings = SessionSettings(margin=0.1, margin_per_1000_tokens=0.02, margin_limit=0.3)
    assert [settings.margin_for(tokens) for tokens in (0, 5_000, 10_000, 10_000_000)] == pytest.approx(
        [0.1, 0.2, 0.3, 0.3]
    )


@pytest.mark.parametrize(
    "wrong",
    [{"margin": 0.4, "margin_limit": 0.3}, {"capacity": 0}, {"idle_s": 0}, {"margin": float("nan")}, {"idle": 3}],
)
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        SessionSettings.model_validate(wrong)
