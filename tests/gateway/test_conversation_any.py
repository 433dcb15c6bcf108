"""Any body at all is read as some conversation, the same each time, in bounded time."""

from __future__ import annotations

import copy
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.conversation import MOST_EARLIER
from gateway.types import Endpoint
from tests.gateway.test_conversation import RESULT_PART, assistant, read, user, words

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
PART = st.fixed_dictionaries(
    {"type": st.sampled_from(["text", "tool_result", "tool_use", "thinking", "image_url", "", "odd"]) | JSON},
    optional={"text": st.text(max_size=9) | JSON, "content": JSON, "name": JSON, "image_url": JSON},
)
MESSAGE = st.fixed_dictionaries(
    {},
    optional={
        "role": st.sampled_from(["system", "developer", "user", "assistant", "tool", "function", "odd"]) | JSON,
        "type": st.sampled_from(["message", "function_call", "function_call_output", "reasoning"]) | JSON,
        "content": st.text(max_size=9) | st.lists(PART, max_size=4) | JSON,
        "tool_calls": JSON | st.lists(st.fixed_dictionaries({"function": JSON}), max_size=3),
        "output": JSON,
    },
)


@given(messages=st.lists(MESSAGE | JSON, max_size=8), endpoint=st.sampled_from(list(Endpoint)))
def test_any_body_is_read_and_bounded(messages: list[Any], endpoint: Endpoint) -> None:
    conversation = read(messages, endpoint=endpoint)
    assert conversation == read(copy.deepcopy(messages), endpoint=endpoint)
    assert len(conversation.earlier) <= MOST_EARLIER
    assert all(len(key) == 16 for key in (*conversation.earlier, conversation.own or b"0" * 16))
    assert 0 <= conversation.draw < 1


@given(turns=st.lists(st.tuples(words, words), min_size=1, max_size=12), last=words)
def test_any_conversation_is_recognised_by_the_turn_before(turns: list[tuple[str, str]], last: str) -> None:
    messages = [m for asked, told in turns for m in (user(asked), assistant(told))]
    before = read(messages[:-1])
    after = read([*messages, user(last)])
    assert after.earlier[0] == before.own
    assert after.own not in after.earlier
    assert after.draw == before.draw


def deep(levels: int) -> Any:
    content: Any = "x"
    for _ in range(levels):
        content = [{"type": "tool_result", "content": content}]
    return content


@pytest.mark.parametrize(
    "messages",
    [
        [user("ab " * 1_300), assistant("cd " * 1_300)] * 2_047 + [user("go on")],
        [user("<system-reminder> a </b> " * 150)] * 4_096,
        [user([{"type": "text", "text": "a"}] * 400_000)],
        [user("a" * 16_000_000)],
        [user("hi"), assistant("<think>" + "a" * 16_000_000), user("b")],
        [user([RESULT_PART] * 8)] * 4_096,
        [user(deep(900))],
    ],
    ids=["messages", "noise", "parts", "text", "reasoning", "results", "nested"],
)
def test_largest_bodies_take_milliseconds(messages: list[Any]) -> None:
    fastest_s = 1.0
    for _ in range(3):
        started = time.process_time()
        read(messages)
        fastest_s = min(fastest_s, time.process_time() - started)
    # 0.1 to 10 ms on an idle core; reading everything takes hundreds.
    assert fastest_s < 0.05
