"""The messages endpoint: blocks, stop reasons, named events, its own error shape."""

from __future__ import annotations

import json
from typing import Any

from gateway.sim import SimExpert
from tests.fixtures_sim import StartSim
from tests.sim.wire import HELLO, RawAnswer, post

TOOL = {"name": "get_time", "input_schema": {"type": "object", "properties": {"tz": {"enum": ["UTC"]}}}}


async def message(start: StartSim, *, path: str = "/v1/messages", **fields: Any) -> RawAnswer:
    server = await start(SimExpert("m", max_model_len=200, maximum_running=4))
    return await post(server, path, {"messages": HELLO, "max_tokens": 100, **fields})


async def test_messages_whole_answer_has_vllms_keys(sim_server: StartSim) -> None:
    whole = (await message(sim_server)).json
    assert tuple(whole) == ("id", "type", "role", "content", "model", "stop_reason", "usage")
    assert whole["id"].startswith("chatcmpl-")
    assert whole["stop_reason"] == "end_turn"
    assert tuple(whole["usage"]) == (
        *("input_tokens", "output_tokens", "cache_creation_input_tokens", "cache_read_input_tokens"),
    )
    assert whole["content"][0]["text"].startswith("[simulated answer]")


async def test_messages_stop_reasons_are_anthropics(sim_server: StartSim) -> None:
    assert (await message(sim_server, max_tokens=3)).json["stop_reason"] == "max_tokens"
    stopped = (await message(sim_server, stop_sequences=["would"])).json
    assert (stopped["stop_reason"], stopped["stop_sequence"]) == ("stop_sequence", "would")
    called = (await message(sim_server, tools=[TOOL], tool_choice={"type": "any"})).json
    assert called["stop_reason"] == "tool_use"
    assert called["content"][0]["input"] == {"tz": "UTC"}


async def test_messages_system_counts_as_prompt(sim_server: StartSim) -> None:
    plain = (await message(sim_server)).json["usage"]["input_tokens"]
    brief = [{"type": "text", "text": "be brief"}]
    system = (await message(sim_server, system=brief)).json["usage"]["input_tokens"]
    assert system == plain + 2 + 4 + 1  # two words, the template's frame, the line end between texts


async def test_messages_stream_has_named_events_and_no_done(sim_server: StartSim) -> None:
    answer = await message(sim_server, stream=True, max_tokens=2)
    assert b"[DONE]" not in answer.body
    events = answer.events
    assert [event["type"] for event in events] == [
        *("message_start", "content_block_start", "content_block_delta", "content_block_delta"),
        *("content_block_stop", "message_delta", "message_stop"),
    ]
    for chunk, event in zip(answer.chunks, events, strict=True):
        assert chunk.startswith(b"event: " + event["type"].encode() + b"\ndata: ")
    assert events[-2]["delta"] == {"stop_reason": "max_tokens", "stop_sequence": None}
    assert events[-2]["usage"]["output_tokens"] == 2


async def test_messages_stream_tool_use_pieces_join(sim_server: StartSim) -> None:
    choice = {"type": "tool", "name": "get_time"}
    events = (await message(sim_server, tools=[TOOL], tool_choice=choice, stream=True)).events
    assert events[1]["content_block"]["name"] == "get_time"
    pieces = [event["delta"]["partial_json"] for event in events if event["type"] == "content_block_delta"]
    assert json.loads("".join(pieces)) == {"tz": "UTC"}


async def test_messages_tool_result_is_answered_in_text(sim_server: StartSim) -> None:
    result = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": "get_time"}]}
    whole = (await message(sim_server, messages=[*HELLO, result], tools=[TOOL])).json
    assert whole["content"][0]["type"] == "text"


async def test_messages_errors_have_anthropics_shape_except_schema_errors(sim_server: StartSim) -> None:
    unknown = await message(sim_server, model="nope")
    assert unknown.status == 404
    assert unknown.json == {
        "type": "error",
        "error": {"type": "NotFoundError", "message": "The model `nope` does not exist."},
    }
    schema = await message(sim_server, max_tokens=None)
    assert schema.json["error"]["param"] == "body.max_tokens"
    assert schema.json["error"]["code"] == 400


async def test_messages_count_tokens_equals_usage(sim_server: StartSim) -> None:
    counted = (await message(sim_server, path="/v1/messages/count_tokens")).json
    used = (await message(sim_server)).json["usage"]["input_tokens"]
    assert counted == {"input_tokens": used, "context_management": {"original_input_tokens": used}}
