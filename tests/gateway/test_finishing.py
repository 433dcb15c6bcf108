"""What a record keeps to explain a request: best scores, why the answer ended, what it waited for, its conversation."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.context import RequestContext, RouteRecord
from gateway.finishing import record_of
from gateway.streaming import finish_of
from gateway.types import Catalog, Endpoint
from router import DomainScores, Thresholds
from tests.conftest import Town
from tests.gateway.routing import CATALOG

LABELS = ("math", "coding", "law", "general", "other")
SHARES = st.lists(st.floats(0.0, 1.0, width=32), min_size=1, max_size=5)


def finished(scores: DomainScores | None, catalog: Catalog = CATALOG) -> RouteRecord:
    context = RequestContext("id", Endpoint.CHAT, catalog)
    context.scores, context.thresholds = scores, Thresholds(margin=0.1, out_of_domain=0.9)
    return record_of(context)


@given(SHARES)
def test_best_scores_are_those_that_decided(shares: list[float]) -> None:
    scores = DomainScores(LABELS[: len(shares)], np.array(shares, dtype=np.float32))
    record = finished(scores)
    assert list(record.scores.values()) == sorted(record.scores.values(), reverse=True)
    assert len(record.scores) == min(3, len(shares))
    domain, confidence = scores.top()
    assert next(iter(record.scores.items())) == (domain, round(confidence, 4))
    assert record.margin == round(scores.margin(), 4)


def test_limits_are_kept_with_what_was_held_against_them() -> None:
    record = finished(DomainScores(LABELS[:2], np.array([0.7, 0.3], dtype=np.float32)))
    assert (record.minimum_margin, record.maximum_out_of_domain, record.maximum_disagreement) == (0.1, 0.9, 1.0)
    nothing = finished(None)
    assert (nothing.scores, nothing.margin, nothing.minimum_margin, nothing.estimates) == ({}, None, None, {})


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        ({"choices": [{"finish_reason": "length"}]}, "length"),
        ({"choices": [{"finish_reason": None}, {"finish_reason": "stop"}]}, "stop"),
        ({"choices": [{"delta": {"content": "x"}, "finish_reason": None}]}, None),
        ({"choices": []}, None),
        ({"choices": ["odd", None, 3]}, None),
        ({"type": "message", "stop_reason": "end_turn", "content": []}, "end_turn"),
        ({"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {}}, "tool_use"),
        ({"type": "content_block_delta", "delta": {"text": "x"}}, None),
        ({"object": "response", "status": "completed"}, "completed"),
        (
            {"type": "response.incomplete", "response": {"object": "response", "status": "incomplete",
             "incomplete_details": {"reason": "max_output_tokens"}}},
            "max_output_tokens",
        ),
        ({"object": "list", "data": []}, None),
        ({"response": None}, None),
        ({"choices": [{"finish_reason": {"a": 1}}]}, None),
        ({"choices": [{"finish_reason": "x" * 10_000}]}, "x" * 40),
    ],
)  # fmt: skip
def test_reason_for_the_end_is_read_in_the_words_of_each_api(payload: dict[str, Any], expected: str | None) -> None:
    assert finish_of(payload) == expected


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
NAMES = st.sampled_from(["choices", "delta", "response", "stop_reason", "object", "finish_reason", "status"])


@given(st.dictionaries(NAMES, JSON))
def test_reason_for_the_end_of_anything_is_short_text_or_nothing(payload: dict[str, Any]) -> None:
    found = finish_of(payload)
    assert found is None or len(found) <= 40


@pytest.mark.parametrize("stream", [False, True])
async def test_plain_answers_and_streams_tell_why_they_ended(town: Town, stream: bool) -> None:
    await town.gateway.chat("math", stream=stream)
    await town.gateway.chat("math", stream=stream, max_tokens=1)
    records = await town.gateway.recorder.wait_for(2)
    assert [record.finish for record in records] == ["stop", "length"]


async def test_connecting_is_counted_once_for_a_connection_that_is_kept(town: Town) -> None:
    for _ in range(2):
        await town.gateway.chat("math")
    first, second = await town.gateway.recorder.wait_for(2)
    assert first.connect_s is not None
    assert first.connect_s >= 0
    assert second.connect_s == 0.0
    assert first.queue_s is not None
    assert first.receive_s is not None


async def test_waiting_for_a_place_is_counted(start_town: Any) -> None:
    town = await start_town(concurrency={"requests": 1, "queue": 5, "queue_s": 5})
    await asyncio.gather(*(town.gateway.chat("math") for _ in range(3)))
    records = await town.gateway.recorder.wait_for(3)
    waited = sorted(record.queue_s or 0.0 for record in records)
    assert waited[0] < 0.005
    assert waited[0] < waited[1] < waited[2]


async def test_requests_of_one_conversation_have_one_name_that_is_not_what_was_said(town: Town) -> None:
    talk = [{"role": "user", "content": "math"}]
    await town.gateway.chat("math", messages=talk)
    await town.gateway.recorder.wait_for(1)
    talk += [{"role": "assistant", "content": "an answer"}, {"role": "user", "content": "more math"}]
    await town.gateway.chat("math", messages=talk)
    await town.gateway.recorder.wait_for(2)
    await town.gateway.chat("math", messages=[{"role": "user", "content": "math, another time"}])
    first, second, other = await town.gateway.recorder.wait_for(3)
    assert first.conversation == second.conversation
    assert other.conversation not in (None, first.conversation)
    assert first.conversation is not None
    assert int(first.conversation, 16) == int(first.timestamp.timestamp() * 1_000_000)
