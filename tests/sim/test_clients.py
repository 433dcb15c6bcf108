"""The official clients read what the simulator sends, as they read a real server."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import anthropic
import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam

from gateway.sim import EMBEDDING_SERVICES, SimExpert
from tests.fixtures_sim import StartSim

HELLO = "Hello there"
TOOL: dict[str, object] = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}


@pytest.fixture
async def client(sim_server: StartSim) -> AsyncIterator[openai.AsyncOpenAI]:
    embedder = SimExpert("e", serves=EMBEDDING_SERVICES)
    server = await sim_server(SimExpert("m", "math", adapters=("lora",), api_key="secret"), embedder)
    async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="secret", max_retries=0) as opened:
        yield opened


async def test_openai_chat_whole_and_streamed_agree(client: openai.AsyncOpenAI) -> None:
    whole = await client.chat.completions.create(model="m", messages=[{"role": "user", "content": HELLO}])
    text, final = "", None
    async for chunk in await client.chat.completions.create(
        model="m",
        messages=[{"role": "user", "content": HELLO}],
        stream=True,
        stream_options={"include_usage": True},
    ):
        text += (chunk.choices[0].delta.content or "") if chunk.choices else ""
        final = chunk.usage or final
    assert text == whole.choices[0].message.content
    assert final is not None
    assert whole.usage is not None
    assert final.total_tokens == whole.usage.total_tokens


async def test_openai_stream_helper_accumulates_tool_calls(client: openai.AsyncOpenAI) -> None:
    async with client.chat.completions.stream(
        model="m",
        messages=[{"role": "user", "content": "use get_weather"}],
        tools=[{"type": "function", "function": {"name": "get_weather", "parameters": TOOL}}],
    ) as stream:
        final = await stream.get_final_completion()
    (call,) = final.choices[0].message.tool_calls or []
    assert json.loads(call.function.arguments).keys() == {"city"}
    assert final.choices[0].finish_reason == "tool_calls"


async def test_openai_completions_models_and_embeddings(client: openai.AsyncOpenAI) -> None:
    completion = await client.completions.create(model="m", prompt="Once", max_tokens=2, logprobs=1)
    assert completion.choices[0].text == "[simulated"
    assert [model.id async for model in client.models.list()] == ["m", "e", "lora"]
    embeddings = await client.embeddings.create(model="e", input=["a", "b"])
    assert [len(entry.embedding) for entry in embeddings.data] == [64, 64]


async def test_openai_responses_whole_and_streamed_agree(client: openai.AsyncOpenAI) -> None:
    whole = await client.responses.create(model="m", input=HELLO)
    async with client.responses.stream(model="m", input=HELLO) as stream:
        kinds = [event.type async for event in stream]
        final = await stream.get_final_response()
    assert kinds[0] == "response.created"
    assert kinds[-1] == "response.completed"
    assert final.output_text == whole.output_text
    assert whole.output_text.startswith("[simulated answer] expert `m` (domain math)")


async def test_openai_errors_become_the_clients_exceptions(client: openai.AsyncOpenAI) -> None:
    messages: list[ChatCompletionMessageParam] = [{"role": "user", "content": HELLO}]
    with pytest.raises(openai.NotFoundError) as unknown:
        await client.chat.completions.create(model="nope", messages=messages)
    assert unknown.value.param == "model"
    with pytest.raises(openai.BadRequestError):
        await client.chat.completions.create(model="m", messages=messages, temperature=9)
    with pytest.raises(openai.AuthenticationError):
        await client.with_options(api_key="wrong").models.list()
    with pytest.raises(openai.InternalServerError):
        await client.responses.create(model="m", input=HELLO, extra_body={"sim_fault": "status;code=503"})


async def test_openai_error_inside_a_stream_is_raised(client: openai.AsyncOpenAI) -> None:
    stream = await client.chat.completions.create(
        model="m",
        messages=[{"role": "user", "content": HELLO}],
        stream=True,
        extra_headers={"x-sim-fault": "error_event;events=2"},
    )
    with pytest.raises(openai.APIError, match="EngineCore encountered an issue"):
        async for _ in stream:
            pass


async def test_anthropic_messages_whole_streamed_and_tools(sim_server: StartSim) -> None:
    server = await sim_server(SimExpert("m", "law"))
    async with anthropic.AsyncAnthropic(base_url=server.url, api_key="any", max_retries=0) as client:
        whole = await client.messages.create(model="m", max_tokens=200, messages=[{"role": "user", "content": HELLO}])
        async with client.messages.stream(
            model="m", max_tokens=200, messages=[{"role": "user", "content": HELLO}]
        ) as stream:
            final = await stream.get_final_message()
        called = await client.messages.create(
            model="m",
            max_tokens=200,
            messages=[{"role": "user", "content": "use get_weather"}],
            tools=[{"name": "get_weather", "input_schema": TOOL}],
        )
        with pytest.raises(anthropic.NotFoundError):
            await client.messages.create(model="nope", max_tokens=2, messages=[{"role": "user", "content": HELLO}])
    assert final.content[0].model_dump()["text"] == whole.content[0].model_dump()["text"]
    assert final.usage.output_tokens == whole.usage.output_tokens
    assert called.stop_reason == "tool_use"
    assert called.content[0].model_dump()["input"].keys() == {"city"}
