"""The official `openai` and `anthropic` clients through the gateway, and what the answers say."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Iterator
from typing import Any

import anthropic
import openai
import pytest

from .cases import CLAUDE_WEATHER, FLAT_WEATHER, TILE_FORMAT, TILE_SCHEMA, function
from .lessons import TIME, WEATHER, answer, messages, question
from .wire import LIMIT_S

pytestmark = pytest.mark.vllm


@pytest.fixture(scope="module")
def client(gateway_url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{gateway_url}/v1", api_key="none", max_retries=0, timeout=LIMIT_S) as client:
        yield client


@pytest.fixture(scope="module")
def claude(gateway_url: str) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=gateway_url, api_key="none", max_retries=0, timeout=LIMIT_S) as client:
        yield client


def _ask(client: openai.OpenAI, lesson: str, **fields: Any) -> Any:
    fields = {"model": "tiny", "temperature": 0, "max_tokens": 200} | fields
    return client.chat.completions.create(messages=messages(lesson), **fields)  # type: ignore[call-overload]


def _calls(tool_calls: list[Any]) -> list[tuple[str, Any]]:
    return [(call.function.name, json.loads(call.function.arguments)) for call in tool_calls]


ROME = ("get_weather", {"city": "Rome"})


@pytest.mark.parametrize("lesson", ["greeting", "greeting_terse", "second_turn", "capital"])
def test_openai_chat_answers_what_was_taught(client: openai.OpenAI, lesson: str) -> None:
    reply = _ask(client, lesson)
    assert (reply.choices[0].message.content, reply.choices[0].finish_reason) == (answer(lesson), "stop")
    assert reply.usage.completion_tokens > 1


def test_openai_stream_arrives_in_pieces_without_usage_chunk(client: openai.OpenAI) -> None:
    chunks = list(_ask(client, "counting", stream=True))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == answer("counting")
    assert len(chunks) > 5
    assert all(chunk.usage is None for chunk in chunks)


def test_openai_stream_usage_asked_comes_last(client: openai.OpenAI) -> None:
    *chunks, last = _ask(client, "greeting", stream=True, stream_options={"include_usage": True})
    assert last.choices == []
    assert last.usage.total_tokens == last.usage.prompt_tokens + last.usage.completion_tokens > 0
    assert all(chunk.usage is None for chunk in chunks)


def test_openai_several_choices_and_logprobs(client: openai.OpenAI) -> None:
    reply = _ask(client, "greeting", temperature=1, seed=5, n=3, logprobs=True, top_logprobs=2)
    assert [choice.index for choice in reply.choices] == [0, 1, 2]
    assert all(len(token.top_logprobs) == 2 for token in reply.choices[0].logprobs.content)


def test_openai_stop_ends_before_the_word(client: openai.OpenAI) -> None:
    assert _ask(client, "counting", stop="seven").choices[0].message.content == answer("counting").split("seven")[0]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        pytest.param({"response_format": TILE_FORMAT}, {"colour": "red", "n": 7}, id="json-schema"),
        pytest.param(
            {"extra_body": {"structured_outputs": {"json": TILE_SCHEMA}}}, {"colour": "red", "n": 7}, id="json"
        ),
        pytest.param({"extra_body": {"structured_outputs": {"choice": ["41"]}}}, 41, id="choice"),
        pytest.param({"extra_body": {"structured_outputs": {"regex": "17[0]{2}"}}}, 1700, id="regex"),
    ],
)
def test_openai_structured_output_is_constrained(client: openai.OpenAI, fields: Any, expected: object) -> None:
    assert json.loads(_ask(client, "json", **fields).choices[0].message.content) == expected


def test_openai_json_object_is_json(client: openai.OpenAI) -> None:
    reply = _ask(client, "greeting", response_format={"type": "json_object"})
    assert isinstance(json.loads(reply.choices[0].message.content), dict)


def test_openai_tools_auto_calls_both(client: openai.OpenAI) -> None:
    choice = _ask(client, "two_calls", tools=[WEATHER, TIME]).choices[0]
    assert _calls(choice.message.tool_calls) == [ROME, ("get_time", {"zone": "UTC"})]
    assert choice.finish_reason == "tool_calls"


def test_openai_tools_not_needed_answers_in_words(client: openai.OpenAI) -> None:
    message = _ask(client, "greeting_tools_unused", tools=[WEATHER]).choices[0].message
    assert (message.content, message.tool_calls) == (answer("greeting"), None)


@pytest.mark.parametrize("choice", ["required", function("get_weather")], ids=["required", "named"])
def test_openai_tools_forced_calls_what_it_would_not(client: openai.OpenAI, choice: Any) -> None:
    # Left to itself the model greets here.
    reply = _ask(client, "greeting_tools_unused", tools=[WEATHER], tool_choice=choice).choices[0]
    assert _calls(reply.message.tool_calls) == [ROME]


def test_openai_tools_streamed_assemble_to_the_call(client: openai.OpenAI) -> None:
    asked: Any = {"model": "tiny", "temperature": 0, "max_tokens": 200, "messages": messages("rome")}
    with client.chat.completions.stream(**asked | {"tools": [WEATHER]}) as stream:
        final = stream.get_final_completion()
    calls = final.choices[0].message.tool_calls
    assert calls is not None
    assert _calls(list(calls)) == [ROME]


def test_openai_tool_result_is_answered(client: openai.OpenAI) -> None:
    reply = _ask(client, "tool_result", tools=[WEATHER])
    assert reply.choices[0].message.content == answer("tool_result")


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
def test_openai_reasoning_is_its_own_field(client: openai.OpenAI, stream: bool) -> None:
    reply = _ask(client, "reasoning", model="tiny-reasoner", stream=stream)
    parts = [chunk.choices[0].delta for chunk in reply] if stream else [reply.choices[0].message]
    thought = "".join(getattr(part, "reasoning", None) or "" for part in parts)
    said = "".join(part.content or "" for part in parts)
    assert f"<think>{thought}</think>{said}" == answer("reasoning")


def test_openai_lora_answers_otherwise_than_its_base(client: openai.OpenAI) -> None:
    base, first, second = (_ask(client, "greeting", model=name, max_tokens=8) for name in ("tiny", "math", "law"))
    assert len({reply.choices[0].message.content for reply in (base, first, second)}) == 3
    assert [reply.model for reply in (base, first, second)] == ["tiny", "tiny-lora", "tiny-lora2"]


def test_openai_completions_batch_and_stream(client: openai.OpenAI) -> None:
    batch = client.completions.create(model="tiny", prompt=["one", "import"], max_tokens=4, temperature=0, echo=True)
    assert [choice.text.split()[0] for choice in batch.choices] == ["one", "import"]
    stream = client.completions.create(model="tiny", prompt="one", max_tokens=4, temperature=0, stream=True)
    assert "one" + "".join(chunk.choices[0].text for chunk in stream) == batch.choices[0].text


def test_openai_responses_text_and_stream(client: openai.OpenAI) -> None:
    reply = client.responses.create(model="tiny", input=question("greeting"), temperature=0)
    assert (reply.output_text, reply.status) == (answer("greeting"), "completed")
    events = list(client.responses.create(model="tiny", input=question("greeting"), temperature=0, stream=True))
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == answer("greeting")
    assert events[-1].type == "response.completed"


def test_openai_responses_calls_the_tool(client: openai.OpenAI) -> None:
    reply = client.responses.create(
        model="tiny",
        input=question("rome"),
        temperature=0,
        tools=[FLAT_WEATHER],  # type: ignore[list-item]
    )
    (call,) = (item for item in reply.output if item.type == "function_call")
    assert (call.name, json.loads(call.arguments)) == ROME


def test_openai_embeddings_list_and_base64_agree(client: openai.OpenAI) -> None:
    floats, packed = (
        client.embeddings.create(model="tiny-bert", input=["hello", "world"], encoding_format=encoding)
        for encoding in ("float", "base64")
    )
    assert [item.index for item in floats.data] == [0, 1]
    decoded = struct.unpack("<64f", base64.b64decode(str(packed.data[1].embedding)))
    assert decoded == pytest.approx(floats.data[1].embedding, abs=1e-6)


def test_openai_errors_are_the_clients_own_classes(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as unknown:
        _ask(client, "greeting", model="nope")
    assert (unknown.value.code, unknown.value.param) == ("model_not_found", "model")
    with pytest.raises(openai.BadRequestError, match="maximum context length"):
        client.chat.completions.create(model="tiny", messages=[{"role": "user", "content": "word " * 4000}])


def _message(lesson: str, **fields: Any) -> Any:
    """Arguments of `messages.create`; the client no longer knows `temperature`, vLLM does."""
    asked = {"model": "tiny", "max_tokens": 200, "messages": messages(lesson), "extra_body": {"temperature": 0}}
    return asked | fields


def _texts(reply: anthropic.types.Message) -> list[str]:
    return [block.text for block in reply.content if block.type == "text"]


def test_anthropic_message_and_stream_say_the_same(claude: anthropic.Anthropic) -> None:
    reply = claude.messages.create(**_message("greeting"))
    assert _texts(reply) == [answer("greeting")]
    assert (reply.stop_reason, reply.usage.output_tokens > 1) == ("end_turn", True)
    with claude.messages.stream(**_message("greeting")) as stream:
        assert "".join(stream.text_stream) == answer("greeting")
        assert stream.get_final_message().stop_reason == "end_turn"


def test_anthropic_system_prompt_is_heard(claude: anthropic.Anthropic) -> None:
    assert _texts(claude.messages.create(**_message("greeting", system="Be brief."))) == [answer("greeting_terse")]


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
def test_anthropic_tool_is_used(claude: anthropic.Anthropic, stream: bool) -> None:
    asked = _message("rome", tools=[CLAUDE_WEATHER])
    if stream:
        with claude.messages.stream(**asked) as opened:
            reply = opened.get_final_message()
    else:
        reply = claude.messages.create(**asked)
    assert [(block.name, block.input) for block in reply.content if block.type == "tool_use"] == [ROME]
    assert reply.stop_reason == "tool_use"


def test_anthropic_unknown_model_is_not_found(claude: anthropic.Anthropic) -> None:
    with pytest.raises(anthropic.NotFoundError):
        claude.messages.create(model="nope", max_tokens=5, messages=[{"role": "user", "content": "hello"}])
