"""Reading a body: what is kept, what is asked of an expert, and what is written for it."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from gateway.errors import InvalidRequest
from gateway.openai import ApiRequest, features_of, needs_of, parse
from gateway.settings import LimitSettings, PassThroughSettings
from gateway.types import Endpoint
from tests.faults.raw import VALID

LIMITS, FIELDS = LimitSettings(), PassThroughSettings()
TOOL = {"type": "function", "function": {"name": "f", "parameters": {}}}


def read(endpoint: Endpoint = Endpoint.CHAT, **changes: Any) -> ApiRequest:
    return parse(endpoint, orjson.dumps({**VALID[endpoint], **changes}), LIMITS, FIELDS)


def needs(endpoint: Endpoint = Endpoint.CHAT, **changes: Any) -> set[str]:
    asked = read(endpoint, **changes)
    return set(needs_of(asked))


@pytest.mark.parametrize("endpoint", Endpoint)
def test_encode_keeps_every_field_and_its_order_but_the_model(endpoint: Endpoint) -> None:
    odd = {"top_k": 3, "x": [1, None, 2.5, -0.0, 1e-7], "é": {"": []}, "seed": 2**63 - 1, "big": 2**64 - 1}
    asked = read(endpoint, **odd)
    expected = {**VALID[endpoint], **odd, "model": "org/name"}
    assert asked.encode("org/name") == orjson.dumps(expected)
    assert asked.model == "auto"
    assert asked.body["model"] == "auto", "the body is read only: the next candidate has another name"


@pytest.mark.parametrize("endpoint", [Endpoint.CHAT, Endpoint.COMPLETIONS])
def test_encode_stream_asks_for_usage_once(endpoint: Endpoint) -> None:
    cases: list[tuple[dict[str, Any], bool]] = [
        ({}, True),
        ({"stream_options": None}, True),
        ({"stream_options": {}}, True),
        ({"stream_options": {"include_usage": False, "other": 1}}, True),
        ({"stream_options": {"include_usage": True}}, False),
    ]
    for changes, hidden in cases:
        asked = read(endpoint, stream=True, **changes)
        assert asked.hides_usage is hidden
        sent = orjson.loads(asked.encode("m"))["stream_options"]
        assert sent == {**(changes.get("stream_options") or {}), "include_usage": True}


@pytest.mark.parametrize("endpoint", Endpoint)
def test_encode_without_a_stream_adds_nothing(endpoint: Endpoint) -> None:
    for changes in ({}, {"stream": False}, {"stream": None}):
        assert not read(endpoint, **changes).hides_usage
        assert b"stream_options" not in read(endpoint, **changes).encode("m")


@pytest.mark.parametrize("endpoint", [Endpoint.RESPONSES, Endpoint.MESSAGES])
def test_encode_stream_of_other_apis_has_usage_of_its_own(endpoint: Endpoint) -> None:
    assert not read(endpoint, stream=True).hides_usage
    assert b"stream_options" not in read(endpoint, stream=True).encode("m")


def test_encode_deeper_than_can_be_written_is_the_clients_mistake() -> None:
    raw = orjson.dumps(VALID[Endpoint.CHAT])[:-1] + b',"x":' + b"[" * 900 + b"]" * 900 + b"}"
    with pytest.raises(InvalidRequest, match="nested"):
        parse(Endpoint.CHAT, raw, LIMITS, FIELDS).encode("m")


@pytest.mark.parametrize(
    ("endpoint", "changes", "text"),
    [
        (Endpoint.CHAT, {}, "math"),
        (Endpoint.MESSAGES, {}, "math"),
        (Endpoint.RESPONSES, {}, "math"),
        (
            Endpoint.RESPONSES,
            {"input": [{"role": "user", "content": [{"type": "input_text", "text": "math"}]}]},
            "math",
        ),
        (Endpoint.COMPLETIONS, {}, "math"),
        (Endpoint.COMPLETIONS, {"prompt": ["math", "coding"]}, "math"),
        (Endpoint.COMPLETIONS, {"prompt": [1, 2, 3]}, ""),
        (Endpoint.COMPLETIONS, {"prompt": [[1, 2], [3]]}, ""),
        (Endpoint.EMBEDDINGS, {"input": ["math"]}, "math"),
        (Endpoint.EMBEDDINGS, {"input": None, "messages": VALID[Endpoint.CHAT]["messages"]}, ""),
    ],
)
def test_features_of_text_is_the_prompt(endpoint: Endpoint, changes: dict[str, Any], text: str) -> None:
    assert features_of(read(endpoint, **changes)).text == text


@pytest.mark.parametrize(
    ("endpoint", "changes", "wanted"),
    [
        (Endpoint.CHAT, {}, set()),
        (Endpoint.CHAT, {"tools": [TOOL]}, {"tools"}),
        (Endpoint.CHAT, {"tools": [TOOL], "tool_choice": "none"}, set()),
        (Endpoint.CHAT, {"tools": []}, set()),
        (Endpoint.CHAT, {"response_format": {"type": "json_schema"}}, {"structured_output"}),
        (Endpoint.CHAT, {"response_format": {"type": "text"}}, set()),
        (Endpoint.CHAT, {"response_format": "json"}, set()),
        (Endpoint.CHAT, {"structured_outputs": {"choice": ["a"]}}, {"structured_output"}),
        (Endpoint.RESPONSES, {"text": {"format": {"type": "json_object"}}}, {"structured_output"}),
        (Endpoint.RESPONSES, {"text": "x"}, set()),
        (Endpoint.CHAT, {"logprobs": True}, {"logprobs"}),
        (Endpoint.COMPLETIONS, {"logprobs": 3}, {"logprobs"}),
        (Endpoint.COMPLETIONS, {"logprobs": 0}, {"logprobs"}),
        (Endpoint.CHAT, {"logprobs": False, "top_logprobs": 0}, set()),
        (Endpoint.CHAT, {"prompt_logprobs": 1}, {"logprobs"}),
        (Endpoint.CHAT, {"reasoning_effort": "high"}, {"reasoning"}),
        (Endpoint.CHAT, {"reasoning_effort": "none"}, set()),
        (Endpoint.RESPONSES, {"reasoning": {"effort": "low"}}, {"reasoning"}),
        (Endpoint.MESSAGES, {"thinking": {"type": "enabled", "budget_tokens": 9}}, {"reasoning"}),
        (Endpoint.MESSAGES, {"output_config": {"format": {"type": "json_schema"}}}, {"structured_output"}),
    ],
)
def test_needs_of_names_what_the_expert_must_be_able_to(
    endpoint: Endpoint, changes: dict[str, Any], wanted: set[str]
) -> None:
    assert needs(endpoint, **changes) == wanted


@pytest.mark.parametrize("name", [None, "", "x", [], {}, 0])
def test_parse_denied_fields_can_be_configured(name: Any) -> None:
    fields = PassThroughSettings(denied=("mine",), chat_template_kwargs=())
    raw = orjson.dumps({**VALID[Endpoint.CHAT], "mine": name})
    with pytest.raises(InvalidRequest) as caught:
        parse(Endpoint.CHAT, raw, LIMITS, fields)
    assert caught.value.param == "mine"
    # What the default denies is then the configuration's own affair.
    parse(Endpoint.CHAT, orjson.dumps({**VALID[Endpoint.CHAT], "documents": []}), LIMITS, fields)


def test_parse_removed_guided_fields_point_to_their_successor() -> None:
    with pytest.raises(InvalidRequest, match="structured_outputs"):
        read(guided_json={})


@pytest.mark.parametrize(("messages", "fits"), [(3, True), (4, False)])
def test_parse_limits_can_be_configured(messages: int, fits: bool) -> None:
    limits = LimitSettings(messages=3, n=1, max_tokens=5, logprobs=0)
    turns = VALID[Endpoint.CHAT]["messages"] * messages
    for endpoint, name in ((Endpoint.CHAT, "messages"), (Endpoint.MESSAGES, "messages"), (Endpoint.RESPONSES, "input")):
        raw = orjson.dumps({**VALID[endpoint], "max_tokens": 5, name: turns})
        if fits:
            assert parse(endpoint, raw, limits, FIELDS).body[name] == turns
        else:
            with pytest.raises(InvalidRequest, match="3 entries") as caught:
                parse(endpoint, raw, limits, FIELDS)
            assert caught.value.param == name
