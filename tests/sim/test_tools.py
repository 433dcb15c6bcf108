"""Tool calls: when they happen, their shape with and without a stream, and that their arguments fit."""

from __future__ import annotations

import json
from typing import Any

from gateway.sim import SimExpert
from tests.fixtures_sim import StartSim
from tests.sim.wire import chat

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"enum": ["Paris", "Rome"]}, "days": {"type": "integer", "minimum": 2}},
            "required": ["city", "days"],
        },
    },
}
TIME = {"type": "function", "function": {"name": "get_time", "parameters": {"type": "object", "properties": {}}}}
NAMED = {"type": "function", "function": {"name": "get_weather"}}
ASKING = [{"role": "user", "content": "please use get_weather for Rome"}]


async def test_tools_mentioned_tool_is_called_with_null_content(sim_server: StartSim) -> None:
    choice = (await chat(await sim_server(), messages=ASKING, tools=[WEATHER, TIME])).json["choices"][0]
    (call,) = choice["message"]["tool_calls"]
    assert tuple(choice["message"])[-2:] == ("tool_calls", "reasoning")
    assert choice["message"]["content"] is None
    assert choice["finish_reason"] == "tool_calls"
    assert tuple(call) == ("id", "type", "function")
    assert call["id"].startswith("chatcmpl-tool-")
    assert call["function"]["name"] == "get_weather"
    assert json.loads(call["function"]["arguments"]) == {"city": "Paris", "days": 2}


async def test_tools_unmentioned_tool_is_not_called(sim_server: StartSim) -> None:
    message = (await chat(await sim_server(), tools=[WEATHER])).json["choices"][0]["message"]
    assert "tool_calls" not in message
    assert message["content"].startswith("[simulated answer]")


async def test_tools_required_calls_with_empty_content(sim_server: StartSim) -> None:
    choice = (await chat(await sim_server(), tools=[TIME], tool_choice="required")).json["choices"][0]
    assert choice["message"]["content"] == ""
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["tool_calls"][0]["function"] == {"name": "get_time", "arguments": "{}"}


async def test_tools_named_choice_finishes_with_stop_as_vllm_does(sim_server: StartSim) -> None:
    choice = (await chat(await sim_server(), tools=[TIME, WEATHER], tool_choice=NAMED)).json["choices"][0]
    assert choice["message"]["tool_calls"][0]["function"]["name"] == "get_weather"
    assert choice["finish_reason"] == "stop"


async def test_tools_choice_none_never_calls(sim_server: StartSim) -> None:
    message = (await chat(await sim_server(), messages=ASKING, tools=[WEATHER], tool_choice="none")).json
    assert "tool_calls" not in message["choices"][0]["message"]


async def test_tools_two_mentioned_are_both_called_unless_not_parallel(sim_server: StartSim) -> None:
    server = await sim_server()
    both: dict[str, Any] = {
        "messages": [{"role": "user", "content": "get_weather and get_time"}],
        "tools": [WEATHER, TIME],
    }
    calls = (await chat(server, **both)).json["choices"][0]["message"]["tool_calls"]
    assert [call["function"]["name"] for call in calls] == ["get_weather", "get_time"]
    single = (await chat(server, **both, parallel_tool_calls=False)).json["choices"][0]["message"]["tool_calls"]
    assert len(single) == 1


async def test_tools_result_is_answered_in_text(sim_server: StartSim) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "get_weather", "arguments": "{}"}}
    messages = [
        *ASKING,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "sunny"},
    ]
    message = (await chat(await sim_server(), messages=messages, tools=[WEATHER])).json["choices"][0]["message"]
    assert "tool_calls" not in message


async def test_tools_stream_sends_name_then_argument_pieces(sim_server: StartSim) -> None:
    *chunks, _ = (await chat(await sim_server(), messages=ASKING, tools=[WEATHER], stream=True)).events
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks[1:]]
    head = deltas[0]["tool_calls"][0]
    assert deltas[0]["content"] is None
    assert tuple(head) == ("id", "type", "index", "function")
    assert head["function"] == {"name": "get_weather"}
    pieces = [delta["tool_calls"][0] for delta in deltas[1:-1]]
    assert all(tuple(piece) == ("index", "function") for piece in pieces)
    assert json.loads("".join(piece["function"]["arguments"] for piece in pieces)) == {"city": "Paris", "days": 2}
    assert deltas[-1] == {}
    assert chunks[-1]["choices"][0]["finish_reason"] == "tool_calls"


async def test_tools_call_cut_by_limit_is_raw_content(sim_server: StartSim) -> None:
    choice = (await chat(await sim_server(), tools=[WEATHER], tool_choice="required", max_tokens=6)).json["choices"][0]
    assert choice["message"]["content"].startswith("<tool_call>")
    assert choice["finish_reason"] == "length"
    assert "tool_calls" not in choice["message"]


async def test_tools_on_server_without_parser_are_refused(sim_server: StartSim) -> None:
    server = await sim_server(SimExpert("m", tools=False))
    auto = await chat(server, tools=[WEATHER])
    assert auto.status == 400
    assert '"auto" tool choice requires --enable-auto-tool-choice' in auto.json["error"]["message"]
    required = await chat(server, tools=[WEATHER], tool_choice="required")
    assert required.json["error"]["message"] == 'tool_choice="required" requires --tool-call-parser to be set'
    assert (await chat(server, tools=[WEATHER], tool_choice="none")).status == 200
