"""Chat and completion streams are framed and ordered as vLLM's."""

from __future__ import annotations

import json

from gateway.sim import SimExpert
from tests.fixtures_sim import StartSim
from tests.sim.wire import chat, post

ROLE_KEYS = ("id", "object", "created", "model", "choices", "prompt_token_ids", "prompt_text")
CHUNK_KEYS = ("id", "object", "created", "model", "choices")
USAGE = {"include_usage": True}


async def test_stream_every_event_is_one_http_chunk_and_ends_with_done(sim_server: StartSim) -> None:
    answer = await chat(await sim_server(), stream=True, max_tokens=4)
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert answer.headers["transfer-encoding"] == "chunked"
    assert answer.complete
    assert all(chunk.startswith(b"data: ") and chunk.endswith(b"\n\n") for chunk in answer.chunks)
    assert answer.chunks[-1] == b"data: [DONE]\n\n"
    assert len(answer.chunks) == 1 + 4 + 1


async def test_stream_cut_text_has_vllms_chunks(sim_server: StartSim) -> None:
    *chunks, done = (await chat(await sim_server(), stream=True, max_tokens=3)).events
    role, first, *_, last = chunks
    assert done == "[DONE]"
    assert tuple(role) == ROLE_KEYS
    assert role["choices"] == [
        {"index": 0, "delta": {"role": "assistant", "content": ""}, "logprobs": None, "finish_reason": None}
    ]
    assert tuple(first) == CHUNK_KEYS
    assert tuple(first["choices"][0]) == ("index", "delta", "logprobs", "finish_reason", "token_ids")
    assert tuple(last) == (*CHUNK_KEYS, "system_fingerprint")
    assert tuple(last["choices"][0]) == (*("index", "delta", "logprobs", "finish_reason", "stop_reason", "token_ids"),)
    assert last["choices"][0]["finish_reason"] == "length"
    assert last["choices"][0]["delta"]["content"]
    assert {chunk["id"] for chunk in chunks} == {role["id"]}
    assert all("usage" not in chunk for chunk in chunks)


async def test_stream_finished_text_ends_with_empty_delta_and_equals_whole_answer(sim_server: StartSim) -> None:
    server = await sim_server()
    whole = (await chat(server)).json
    *chunks, _ = (await chat(server, stream=True)).events
    text = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks)
    assert text == whole["choices"][0]["message"]["content"]
    assert chunks[-1]["choices"][0]["delta"] == {}
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"


async def test_stream_include_usage_adds_one_chunk_without_choices(sim_server: StartSim) -> None:
    server = await sim_server()
    *chunks, _ = (await chat(server, stream=True, max_tokens=5, stream_options=USAGE)).events
    final = chunks[-1]
    assert tuple(final) == (*CHUNK_KEYS, "usage", "system_fingerprint")
    assert final["choices"] == []
    assert tuple(final["usage"]) == (*("prompt_tokens", "total_tokens", "completion_tokens", "prompt_tokens_details"),)
    assert final["usage"]["completion_tokens"] == 5
    assert all("usage" not in chunk and "system_fingerprint" not in chunk for chunk in chunks[:-1])
    assert final["usage"]["prompt_tokens"] == (await chat(server)).json["usage"]["prompt_tokens"]


async def test_stream_continuous_usage_counts_up(sim_server: StartSim) -> None:
    options = USAGE | {"continuous_usage_stats": True}
    *chunks, _ = (await chat(await sim_server(), stream=True, max_tokens=3, stream_options=options)).events
    assert [chunk["usage"]["completion_tokens"] for chunk in chunks] == [0, 1, 2, 3, 3]
    assert tuple(chunks[0]) == (*CHUNK_KEYS, "usage", "prompt_token_ids", "prompt_text")


async def test_stream_continuous_usage_needs_include_usage(sim_server: StartSim) -> None:
    options = {"continuous_usage_stats": True}
    *chunks, _ = (await chat(await sim_server(), stream=True, max_tokens=3, stream_options=options)).events
    assert all("usage" not in chunk for chunk in chunks)


async def test_stream_n2_interleaves_choices_after_both_roles(sim_server: StartSim) -> None:
    *chunks, _ = (await chat(await sim_server(), stream=True, max_tokens=2, n=2)).events
    assert [chunk["choices"][0]["index"] for chunk in chunks] == [0, 1, 0, 1, 0, 1]
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks[-2:]] == ["length", "length"]
    assert [chunk for chunk in chunks if "system_fingerprint" in chunk] == [chunks[-1]]


async def test_stream_logprobs_ride_on_their_token(sim_server: StartSim) -> None:
    *chunks, _ = (await chat(await sim_server(), stream=True, max_tokens=2, logprobs=True, top_logprobs=2)).events
    assert chunks[0]["choices"][0]["logprobs"] is None
    for chunk in chunks[1:]:
        choice = chunk["choices"][0]
        assert choice["logprobs"]["content"][0]["token"] == choice["delta"]["content"]


async def test_stream_reasoning_precedes_content(sim_server: StartSim) -> None:
    thinking = {"enable_thinking": True}
    *chunks, _ = (await chat(await sim_server(), stream=True, chat_template_kwargs=thinking)).events
    kinds = [next(iter(chunk["choices"][0]["delta"]), "end") for chunk in chunks[1:]]
    assert kinds == sorted(kinds, key=["reasoning", "content", "end"].index)
    assert kinds.count("reasoning") > 3


async def test_stream_json_schema_pieces_join_to_json(sim_server: StartSim) -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    wanted = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}
    *chunks, _ = (await chat(await sim_server(), stream=True, response_format=wanted)).events
    text = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks)
    assert json.loads(text) == {"n": 1}


async def test_completion_stream_has_vllms_chunks(sim_server: StartSim) -> None:
    body = {"prompt": "Once upon", "max_tokens": 3, "stream": True, "stream_options": USAGE}
    *chunks, final, done = (await post(await sim_server(), "/v1/completions", body)).events
    assert done == "[DONE]"
    assert len(chunks) == 3
    assert tuple(chunks[0]["choices"][0]) == (
        *("index", "text", "logprobs", "finish_reason", "stop_reason", "prompt_token_ids", "token_ids"),
    )
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks] == [None, None, "length"]
    assert final["choices"] == []
    assert final["usage"]["prompt_tokens_details"] == {"cached_tokens": 0}
    assert chunks[0]["id"].startswith("cmpl-")


async def test_stream_keeps_the_pace_of_the_expert(sim_server: StartSim) -> None:
    import time

    expert = SimExpert("m", time_to_first_token_s=0.1, tokens_per_second=100)
    server = await sim_server(expert, keep_timing=True)
    started_s = time.monotonic()
    await chat(server, stream=True, max_tokens=11)
    assert 0.1 + 10 / 100 <= time.monotonic() - started_s < 2.0
    started_s = time.monotonic()
    await chat(server, max_tokens=10)
    assert time.monotonic() - started_s >= 0.1 + 10 / 100
