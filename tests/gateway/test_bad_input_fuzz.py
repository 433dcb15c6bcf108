"""Generated bodies: whatever comes, the gateway answers with an answer or a well-formed 4xx, and lives on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.errors import PointsmanError
from gateway.openai import ApiRequest, features_of, needs_of, parse
from gateway.settings import LimitSettings, PassThroughSettings
from gateway.types import Endpoint
from tests.conftest import Town
from tests.faults.raw import VALID, check_refusal, request
from tests.harness import send_raw

LIMITS, FIELDS = LimitSettings(), PassThroughSettings()

KEYS = [
    *["model", "messages", "prompt", "input", "stream", "stream_options", "n", "max_tokens", "logprobs", "tools"],
    *["tool_choice", "response_format", "text", "structured_outputs", "chat_template_kwargs", "top_logprobs", "stop"],
    *["role", "content", "type", "image_url", "tool_calls", "function", "arguments", "output", "include_usage"],
]
WORDS = ["auto", "math", "auto/math", "user", "assistant", "tool", "system", "text", "input_text", "image_url", "file"]
WORDS += ["function_call_output", "tool_result", "json_schema", "none", "", "\0", "\u202e", "<task>", "😀"]

leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**64 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from(WORDS),
    st.text(max_size=8),
)
values = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.one_of(st.sampled_from(KEYS), st.text(max_size=4)), inner, max_size=5),
    ),
    max_leaves=12,
)
messages = st.lists(
    st.one_of(values, st.fixed_dictionaries({"role": st.sampled_from(WORDS), "content": values})), max_size=4
)
changes = st.dictionaries(st.sampled_from(KEYS), values, max_size=4)
endpoints = st.sampled_from(list(Endpoint))
bodies = st.builds(
    lambda endpoint, changed, own: (endpoint, {**VALID[endpoint], **changed, **own}),
    endpoints,
    changes,
    st.one_of(st.just({}), st.builds(lambda found: {"messages": found}, messages)),
)


def parsed(endpoint: Endpoint, raw: bytes) -> ApiRequest | PointsmanError:
    """What becomes of a body; any other exception fails the test."""
    try:
        return parse(endpoint, raw, LIMITS, FIELDS)
    except PointsmanError as error:
        return error


@settings(max_examples=200, deadline=None)
@given(bodies)
@pytest.mark.row("C17")
def test_parse_any_object_gives_a_request_or_a_refusal(case: tuple[Endpoint, dict[str, Any]]) -> None:
    endpoint, body = case
    asked = parsed(endpoint, orjson.dumps(body))
    if isinstance(asked, PointsmanError):
        assert 400 <= asked.status < 500
        assert orjson.loads(asked.body())
        return
    needs_of(asked)
    features_of(asked)
    sent = orjson.loads(asked.encode("sim/any"))
    assert sent.pop("model") == "sim/any"
    expected = {key: value for key, value in orjson.loads(orjson.dumps(body)).items() if key != "model"}
    if asked.hides_usage:
        assert sent.pop("stream_options")["include_usage"] is True
        expected.pop("stream_options", None)
    assert sent == expected


@settings(max_examples=200, deadline=None)
@given(endpoints, st.binary(max_size=200), st.integers(0, 200))
@pytest.mark.row("C17")
def test_parse_any_bytes_gives_a_request_or_a_refusal(endpoint: Endpoint, noise: bytes, place: int) -> None:
    valid = orjson.dumps(VALID[endpoint])
    for raw in (noise, valid[:place] + noise + valid[place:], valid[:place] + noise):
        asked = parsed(endpoint, raw)
        assert not isinstance(asked, PointsmanError) or 400 <= asked.status < 500


@pytest.mark.row("C17")
async def test_any_object_is_answered_or_refused(town: Town) -> None:
    drawn = list(examples(bodies, 150))
    for count, (endpoint, body) in enumerate(drawn, start=1):
        raw = request(orjson.dumps(body), path=endpoint.path, version="1.0")
        answer = await send_raw(town.gateway.url, raw)
        assert answer.status < 500, (endpoint, body, answer)
        if "x-pointsman-expert" not in answer.headers:
            check_refusal(answer, answer.status, path=endpoint.path)
        record = (await town.gateway.recorder.wait_for(count))[-1]
        assert record.status == answer.status
    assert len(town.gateway.recorder.records) == len(drawn)
    assert set((await town.gateway.metric("pointsman_upstream_inflight")).values()) <= {0.0}


def examples(strategy: st.SearchStrategy[Any], count: int) -> Iterator[Any]:
    """Draw examples without a loop of hypothesis' own, for awaiting in between."""
    found: list[Any] = []

    @settings(max_examples=count, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(strategy)
    def collect(example: Any) -> None:
        found.append(example)

    collect()
    yield from found
