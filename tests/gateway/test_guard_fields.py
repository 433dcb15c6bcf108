"""Bounds on what a request may make an expert's server do: answers, grammars, lists (OPERATIONS C11, C13, 6.2)."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import InvalidRequest
from gateway.field_checks import check_fields
from gateway.openai import parse
from gateway.settings import LimitSettings, PassThroughSettings
from gateway.types import Endpoint
from tests.conftest import Town
from tests.faults.raw import GENERATING, VALID, body_of, forwarded, open_town, refused, request
from tests.harness import send_raw

LIMITS, FIELDS = LimitSettings(), PassThroughSettings()
LONG = "a" * 1_001
BIG = {"type": "object", "properties": {f"p{index}": {"type": "string"} for index in range(3_000)}}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def town() -> AsyncIterator[Town]:
    async with open_town() as town:
        yield town


def tool_with(schema: Any) -> list[dict[str, Any]]:
    return [TOOL, {"type": "function", "function": {"name": "g", "parameters": schema}}]


def nested(schema: Any, levels: int = 30) -> Any:
    for _ in range(levels):
        schema = {"type": "object", "properties": {"a": {"anyOf": [{"type": "null"}, schema]}}}
    return schema


TOO_MUCH: list[tuple[str, dict[str, Any]]] = [
    ("tools", {"tools": [TOOL] * 129}),
    ("functions", {"functions": [{}] * 129}),
    ("tools[1]", {"tools": tool_with(BIG)}),
    ("tools[0]", {"tools": [{"name": "f", "input_schema": BIG}]}),
    ("tools[0]", {"tools": [{"type": "custom", "format": {"type": "grammar", "definition": "a" * 70_000}}]}),
    ("tools[1]", {"tools": tool_with(nested({"type": "string", "pattern": LONG}))}),
    ("tools[1]", {"tools": tool_with({"patternProperties": {LONG: {}}})}),
    ("response_format", {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": BIG}}}),
    ("response_format", {"response_format": {"type": "structural_tag", "structures": [{"schema": {"pattern": LONG}}]}}),
    ("text", {"text": {"format": {"type": "json_schema", "schema": {"pattern": LONG}}}}),
    ("structured_outputs", {"structured_outputs": {"json": BIG}}),
    ("structured_outputs", {"structured_outputs": {"json": {"pattern": LONG}}}),
    ("structured_outputs.json", {"structured_outputs": {"json": orjson.dumps({"pattern": LONG}).decode()}}),
    ("structured_outputs.json", {"structured_outputs": {"json": "not json"}}),
    ("structured_outputs.regex", {"structured_outputs": {"regex": LONG}}),
    ("structured_outputs.regex", {"structured_outputs": {"regex": "(a{1,1001}){2}"}}),
    ("structured_outputs.regex", {"structured_outputs": {"regex": "a{" + "9" * 900 + "}"}}),
    ("structured_outputs.regex", {"structured_outputs": {"regex": "a{ 5000 , }"}}),
    ("structured_outputs.whitespace_pattern", {"structured_outputs": {"json": {}, "whitespace_pattern": LONG}}),
    ("structured_outputs", {"structured_outputs": {"grammar": "root ::= " + "a" * 70_000}}),
    ("structured_outputs.choice", {"structured_outputs": {"choice": ["a"] * 1_025}}),
    ("structured_outputs._backend", {"structured_outputs": {"regex": "a", "_backend": "outlines"}}),
    ("stop", {"stop": ["a"] * 17}),
    ("stop", {"stop": "a" * 257}),
    ("stop", {"stop": ["b", "a" * 257]}),
    ("stop_sequences", {"stop_sequences": ["a"] * 17}),
    ("logit_bias", {"logit_bias": {str(token): 1 for token in range(1_025)}}),
    ("bad_words", {"bad_words": ["a"] * 1_025}),
    ("stop_token_ids", {"stop_token_ids": [1] * 1_025}),
    ("allowed_token_ids", {"allowed_token_ids": [1] * 1_025}),
    ("logprob_token_ids", {"logprob_token_ids": [1] * 1_025}),
    ("max_tokens", {"n": 16, "max_tokens": 40_000}),
    ("max_tokens", {"best_of": 16, "max_tokens": 40_000}),
    ("max_completion_tokens", {"n": 5, "max_completion_tokens": 131_072, "max_tokens": 1}),
]


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(("param", "fields"), TOO_MUCH, ids=[f"{index}-{row[0]}" for index, row in enumerate(TOO_MUCH)])
@pytest.mark.row("C11")
async def test_c11_more_than_a_server_should_be_made_to_do_is_refused_by_name(
    town: Town, param: str, fields: dict[str, Any]
) -> None:
    before = forwarded(town)
    for endpoint in GENERATING:
        raw = request(body_of(endpoint, **fields), path=endpoint.path)
        assert (await refused(town.gateway, raw, path=endpoint.path))["param"] == param
    assert forwarded(town) == before


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(
    ("fields", "fits"),
    [
        ({"prompt": ["a"] * 256}, True),
        ({"prompt": ["a"] * 257}, False),
        ({"prompt": ["a"] * 32, "n": 8}, True),
        ({"prompt": ["a"] * 33, "n": 8}, False),
        ({"prompt": [[1, 2]] * 257}, False),
        ({"prompt": [1] * 1_000, "n": 2}, True),
        ({"prompt": ["a"] * 8, "max_tokens": 70_000}, False),
        ({"prompt": ["a"] * 8, "max_tokens": 8}, True),
    ],
)
@pytest.mark.row("C11")
async def test_c11_prompts_times_answers_are_bounded(town: Town, fields: dict[str, Any], fits: bool) -> None:
    before = forwarded(town)
    answer = await send_raw(town.gateway.url, request(body_of(Endpoint.COMPLETIONS, **fields), path="/v1/completions"))
    assert (answer.status == 200 or "x-pointsman-expert" in answer.headers) is fits, answer
    assert forwarded(town) == before + fits


AT_THE_LIMIT: list[dict[str, Any]] = [
    {"tools": [TOOL] * 128},
    {"tools": tool_with({"type": "string", "pattern": "^(a{1,1000})$"})},
    # A property may be called `pattern`, and descriptions may talk of patterns.
    {"tools": tool_with({"properties": {"pattern": {"description": 'the "pattern" ' + LONG}}})},
    {"tools": None, "response_format": None, "stop": None, "logit_bias": None, "structured_outputs": None},
    {"structured_outputs": {"regex": "[a-z]{1,8}", "disable_any_whitespace": True}},
    {"structured_outputs": {"json": '{"type":"object"}'}},
    {"stop": ["a" * 256] * 16},
    {"logit_bias": {str(token): 1 for token in range(1_024)}},
    {"n": 4, "max_tokens": 131_072},
    {"messages": [{"role": "user", "content": "math " + LONG * 80}], "tools": [TOOL]},
]


@pytest.mark.parametrize("fields", AT_THE_LIMIT)
@pytest.mark.row("C11")
def test_c11_what_is_at_the_limit_or_beside_it_passes_unchanged(fields: dict[str, Any]) -> None:
    body = {**VALID[Endpoint.CHAT], **fields}
    assert parse(Endpoint.CHAT, orjson.dumps(body), LIMITS, FIELDS).body == body


@pytest.mark.row("C13")
def test_c13_pattern_hidden_by_escapes_is_found() -> None:
    raw = orjson.dumps({**VALID[Endpoint.CHAT], "tools": tool_with({"pattern": LONG})})
    for hidden in (b'"p\\u0061ttern"', b'"\\u0070\\u0061ttern"'):
        with pytest.raises(InvalidRequest, match="pattern"):
            parse(Endpoint.CHAT, raw.replace(b'"pattern"', hidden), LIMITS, FIELDS)


@pytest.mark.row("C13")
def test_c13_schema_nested_beyond_writing_is_refused() -> None:
    deep = b'{"a":' * 400 + b"0" + b"}" * 400
    padding = b'"x":"' + b"a" * 70_000 + b'"'
    raw = orjson.dumps(VALID[Endpoint.CHAT])[:-1] + b"," + padding + b',"tools":[' + deep + b"]}"
    with pytest.raises(InvalidRequest, match="nested"):
        parse(Endpoint.CHAT, raw, LIMITS, FIELDS)


def test_limits_can_be_configured() -> None:
    limits = LimitSettings(tools=1, stops=0, list_entries=0, answers=1, answer_tokens=5, pattern_characters=1)
    for fields in (
        {"tools": [TOOL, TOOL]},
        {"stop": ["a"]},
        {"bad_words": ["a"]},
        {"n": 2},
        {"max_tokens": 6},
        {"structured_outputs": {"regex": "aa"}},
    ):
        raw = orjson.dumps({**VALID[Endpoint.CHAT], **fields})
        with pytest.raises(InvalidRequest):
            parse(Endpoint.CHAT, raw, limits, FIELDS)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=6) | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["json", "regex", "pattern", "patternProperties", "choice", "a"]), inner)
    ),
    max_leaves=10,
)
names = [*("structured_outputs", "response_format", "text", "tools", "stop", "logit_bias", "n", "best_of", "priority")]
names += ["max_tokens", "chat_template_kwargs", "background", "request_id", "stop_token_ids", "output_config"]


@given(st.dictionaries(st.sampled_from(names), values, max_size=4))
def test_any_field_of_any_type_is_passed_or_refused_by_name(fields: dict[str, Any]) -> None:
    limits = LimitSettings(schema_bytes=64, pattern_characters=3, list_entries=2, tools=2)
    named = None
    try:
        check_fields(fields, b'"pattern' + b" " * 70, limits, FIELDS)
    except InvalidRequest as error:
        named = error.param or ""
    assert named is None or named.partition(".")[0].partition("[")[0] in fields


def test_large_ordinary_tools_cost_little() -> None:
    tools = [
        {"type": "function", "function": {"name": f"f{index}", "description": 'a "pattern" ' * 400, "parameters": BIG2}}
        for index in range(60)
    ]
    raw = orjson.dumps({**VALID[Endpoint.CHAT], "tools": tools})
    parsed = orjson.loads(raw)
    times = []
    for _ in range(20):
        started = time.perf_counter()
        check_fields(parsed, raw, LIMITS, FIELDS)
        times.append(time.perf_counter() - started)
    assert min(times) < 0.005  # 290 kB of tools


BIG2 = {"type": "object", "properties": {f"p{index}": {"type": "string"} for index in range(20)}}
