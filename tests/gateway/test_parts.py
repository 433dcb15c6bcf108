"""How many parts a request's messages may have, and how long it takes to read the most."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.conversation import read_conversation
from gateway.errors import InvalidRequest
from gateway.openai import features_of, needs_of, parse
from gateway.parts import KEYS_OF_A_PART, check_parts
from gateway.request_size import size_of
from gateway.settings import LimitSettings, PassThroughSettings
from gateway.types import Endpoint
from tests.conftest import Town

TEXT = {"type": "text", "text": "a"}
MOST = LimitSettings().parts


def said(content: Any, **fields: Any) -> dict[str, Any]:
    return {"role": "user", "content": content, **fields}


def nested(depth: int, most: int) -> Any:
    inner: Any = [TEXT] * most
    for _ in range(depth):
        inner = [{"type": "tool_result", "content": inner}]
    return inner


SHAPES: dict[str, Callable[[int], list[Any]]] = {
    "one message": lambda most: [said([TEXT] * most)],
    "many messages": lambda most: [said([TEXT]) for _ in range(most)],
    "strings": lambda most: [said(["a"] * most)],
    "tool calls": lambda most: [said(None, tool_calls=[{"function": {"name": "f"}}] * most)],
    "a tool's result": lambda most: [said(nested(1, most - 1))],
    "results in results": lambda most: [said(nested(5, most - 5))],
    "lists in lists": lambda most: [said([[["a"] * (most - 2)]])],
    "output of a call": lambda most: [{"type": "function_call_output", "output": [TEXT] * most}],
    "an object for a list": lambda most: [said({"content": [TEXT] * (most - 1)})],
    "keys": lambda most: [said("x", **{f"k{i}": 1 for i in range(most * KEYS_OF_A_PART)})],
}


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_so_many_parts_pass_and_one_more_does_not(shape: Callable[[int], list[Any]]) -> None:
    check_parts(shape(100), 100, "messages")
    with pytest.raises(InvalidRequest, match="may have 100 parts at most") as refused:
        check_parts(shape(101), 100, "messages")
    assert refused.value.param == "messages"


JSON = st.recursive(
    st.none() | st.integers() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["content", "output", "tool_calls", "x"]), inner, max_size=4)
    ),
    max_leaves=40,
)


@given(st.lists(JSON, max_size=5))
def test_any_messages_are_counted_without_an_error_of_ours(items: list[Any]) -> None:
    check_parts(items, 1_000, "messages")


def test_very_deep_nesting_is_counted_without_recursion() -> None:
    deep: Any = "x"
    for _ in range(50_000):
        deep = [deep]
    with pytest.raises(InvalidRequest):
        check_parts([said(deep)], 8_192, "messages")


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/v1/chat/completions", {"messages": [said([TEXT] * (MOST + 1))]}, "messages"),
        ("/v1/messages", {"max_tokens": 5, "messages": [said([TEXT] * (MOST + 1))]}, "messages"),
        ("/v1/responses", {"input": [said([{"type": "input_text", "text": "a"}] * (MOST + 1))]}, "input"),
        ("/v1/embeddings", {"messages": [said([TEXT] * (MOST + 1))]}, "messages"),
    ],
)
async def test_too_many_parts_are_a_clear_400(town: Town, path: str, body: dict[str, Any], param: str) -> None:
    reply = await town.gateway.http.post(path, json={"model": "auto", **body})
    assert reply.status_code == 400, reply.text
    assert f"`{param}` may have 8192 parts at most" in reply.text
    assert not any(server.prompts for server in town.servers.values())


async def test_limit_is_a_setting_and_the_most_that_may_come_is_answered(start_town: Any) -> None:
    town = await start_town(limits={"parts": 3})
    assert (await town.gateway.http.post("/v1/chat/completions", json=chat(3))).status_code == 200
    assert (await town.gateway.http.post("/v1/chat/completions", json=chat(4))).status_code == 400


def chat(parts: int) -> dict[str, Any]:
    return {"model": "auto", "messages": [said([TEXT] * parts)]}


LARGEST = {
    "ten thousand messages": ({"messages": 10_000}, [said("hello there") for _ in range(10_000)]),
    "ten thousand messages of parts": (
        {"messages": 10_000, "parts": 10_000},
        [said([TEXT]) for _ in range(10_000)],
    ),
    "the most parts in one message": ({}, [said([TEXT] * MOST)]),
    "the most parts in the most messages": ({}, [said([TEXT, TEXT]) for _ in range(4_096)]),
    "four hundred thousand parts": ({}, [said([{}] * 399_000)]),
}


@pytest.mark.parametrize(("limits", "messages"), LARGEST.values(), ids=LARGEST)
def test_largest_bodies_are_read_in_bounded_time(limits: Any, messages: list[Any]) -> None:
    """Measured 12 to 45 ms; the limit leaves room for a busy machine, and is below what 8,192 parts cost times ten."""
    raw = orjson.dumps({"model": "auto", "messages": messages})
    settings, fields = LimitSettings(**limits), PassThroughSettings()
    best = min(_seconds(raw, settings, fields) for _ in range(3))
    assert best < 0.25


def _seconds(raw: bytes, settings: LimitSettings, fields: PassThroughSettings) -> float:
    started = time.perf_counter()
    try:
        request = parse(Endpoint.CHAT, raw, settings, fields)
        features = features_of(request)
        needs_of(request)
        read_conversation(request, "", None)
        size_of(request, features)
        request.encode("m")
    except InvalidRequest:
        pass
    return time.perf_counter() - started
