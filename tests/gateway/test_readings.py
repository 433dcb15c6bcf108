"""When a turn is scored alone too, and which of the two readings counts."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.openai import ApiRequest, features_of
from gateway.readings import last_turn, surer
from gateway.types import Endpoint
from router import Thresholds
from tests.gateway.routing import CATALOG, scores_of

LIMITS = Thresholds(default_confidence=0.5, out_of_domain=0.9, disagreement=0.9)
REMINDER = "<system-reminder>The file main.py was changed.</system-reminder>"
QUESTION = {"role": "user", "content": "how do I boil an egg?"}
ANSWER = {"role": "assistant", "content": "Eight minutes."}


def alone(*messages: Any, endpoint: Endpoint = Endpoint.CHAT) -> str:
    field = "input" if endpoint is Endpoint.RESPONSES else "messages"
    request = ApiRequest(endpoint, {field: list(messages)}, "auto", False, False)
    return last_turn(request, features_of(request))


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


@pytest.mark.parametrize("endpoint", [Endpoint.CHAT, Endpoint.MESSAGES, Endpoint.RESPONSES])
def test_short_turn_is_read_alone_too(endpoint: Endpoint) -> None:
    assert alone(QUESTION, ANSWER, user("and two?"), endpoint=endpoint) == "and two?"
    parts = [{"type": "input_text", "text": f"{REMINDER}and two?"}]
    assert alone(QUESTION, ANSWER, user(parts), endpoint=endpoint) == "and two?"


def test_turn_before_a_tool_loop_or_a_harness_is_the_last_one() -> None:
    called = {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]}
    result = {"role": "tool", "tool_call_id": "1", "content": "law and health"}
    assert alone(QUESTION, ANSWER, user("and two?"), called, result, user(REMINDER)) == "and two?"


@pytest.mark.parametrize(
    "messages",
    [[], [QUESTION], [QUESTION, ANSWER], [QUESTION, ANSWER, user("x" * 300)], [user(""), user(None)], ["odd", 3]],
    ids=["nothing", "first turn", "no second turn", "long turn", "empty", "malformed"],
)
def test_text_that_is_the_turn_anyway_is_read_once(messages: list[Any]) -> None:
    assert alone(*messages) == ""


def test_surer_reading_counts() -> None:
    hidden = scores_of(0.8, 0.15, 0.05)
    assert surer(hidden, scores_of(0.02, 0.95, 0.03), CATALOG, LIMITS).top()[0] == "coding"
    assert surer(hidden, scores_of(0.2, 0.75, 0.05), CATALOG, LIMITS) is hidden


@pytest.mark.parametrize(
    "reading",
    [
        scores_of(0.01, 0.01, 0.98),
        scores_of(0.01, 0.98, 0.01, strange=0.95),
        scores_of(0.01, 0.98, 0.01, moved=0.95),
    ],
    ids=["everyday talk", "strange", "moved by its first words"],
)
def test_reading_alone_that_means_nothing_does_not_count(reading: Any) -> None:
    in_context = scores_of(0.6, 0.3, 0.1)
    assert surer(in_context, reading, CATALOG, LIMITS) is in_context


@given(st.tuples(*[st.floats(0, 1)] * 3), st.tuples(*[st.floats(0, 1)] * 3))
def test_what_counts_is_never_less_sure(one: tuple[float, ...], other: tuple[float, ...]) -> None:
    in_context, reading = scores_of(*one), scores_of(*other)
    counting = surer(in_context, reading, CATALOG, LIMITS)
    assert counting is in_context or counting is reading
    assert counting.top()[1] >= in_context.top()[1]
