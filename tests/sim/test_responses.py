"""The responses endpoint: object, items, numbered events, refusals."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.sim import SimExpert
from tests.fixtures_sim import StartSim
from tests.sim.wire import RawAnswer, get, post

TOOL = {"type": "function", "name": "get_time", "parameters": {"type": "object", "properties": {"tz": {}}}}


async def respond(start: StartSim, **fields: Any) -> RawAnswer:
    return await post(await start(SimExpert("m", max_model_len=200)), "/v1/responses", fields)


async def test_responses_whole_answer_has_vllms_keys(sim_server: StartSim) -> None:
    whole = (await respond(sim_server, input="hello")).json
    assert tuple(whole)[:8] == (
        *("id", "created_at", "incomplete_details", "instructions", "metadata", "model", "object", "output"),
    )
    assert len(whole) == 32
    assert whole["id"].startswith("resp_")
    assert whole["status"] == "completed"
    (item,) = whole["output"]
    assert tuple(item) == ("id", "content", "role", "status", "type", "phase")
    assert item["content"][0]["text"].startswith("[simulated answer]")
    assert whole["usage"]["total_tokens"] == whole["usage"]["input_tokens"] + whole["usage"]["output_tokens"]


async def test_responses_cut_answer_is_incomplete(sim_server: StartSim) -> None:
    whole = (await respond(sim_server, input="hello", max_output_tokens=4)).json
    assert whole["status"] == "incomplete"
    assert whole["incomplete_details"] == {"reason": "max_output_tokens"}


async def test_responses_tool_call_is_an_item(sim_server: StartSim) -> None:
    whole = (await respond(sim_server, input="now", tools=[TOOL], tool_choice="required")).json
    (item,) = whole["output"]
    assert tuple(item)[:5] == ("arguments", "call_id", "name", "type", "id")
    assert (item["type"], item["name"]) == ("function_call", "get_time")
    assert json.loads(item["arguments"]).keys() == {"tz"}


async def test_responses_stream_numbers_events_and_ends_without_done(sim_server: StartSim) -> None:
    answer = await respond(sim_server, input="hello", stream=True, max_output_tokens=2)
    assert all(chunk.startswith(b"event: response.") for chunk in answer.chunks)
    assert b"[DONE]" not in answer.body
    events = answer.events
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert [event["type"].removeprefix("response.") for event in events] == [
        *("created", "in_progress", "output_item.added", "content_part.added"),
        *("output_text.delta", "output_text.delta"),
        *("output_text.done", "content_part.done", "output_item.done", "completed"),
    ]
    assert events[-1]["response"]["status"] == "incomplete"
    assert events[0]["response"]["usage"] is None
    text = "".join(event["delta"] for event in events if event["type"].endswith("text.delta"))
    assert events[-1]["response"]["output"][0]["content"][0]["text"] == text


async def test_responses_stream_tool_call_pieces_join(sim_server: StartSim) -> None:
    events = (await respond(sim_server, input="use get_time", tools=[TOOL], stream=True)).events
    pieces = [event["delta"] for event in events if event["type"].endswith("arguments.delta")]
    done = next(event for event in events if event["type"].endswith("arguments.done"))
    assert tuple(done)[-1] == "name"
    assert "".join(pieces) == done["arguments"]


async def test_responses_json_schema_format_is_answered_and_echoed(sim_server: StartSim) -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    wanted = {"format": {"type": "json_schema", "name": "a", "schema": schema}}
    whole = (await respond(sim_server, input="hello", text=wanted)).json
    assert json.loads(whole["output"][0]["content"][0]["text"]) == {"n": 1}
    assert whole["text"]["format"]["schema"] == schema


async def test_responses_reasoning_is_an_item_of_its_own(sim_server: StartSim) -> None:
    whole = (await respond(sim_server, input="hello", chat_template_kwargs={"enable_thinking": True})).json
    assert [item["type"] for item in whole["output"]] == ["reasoning", "message"]
    assert whole["usage"]["output_tokens_details"]["reasoning_tokens"] > 0


@pytest.mark.parametrize(
    ("fields", "status", "kind", "param"),
    [
        ({}, 400, "Bad Request", "body.input"),
        ({"input": "x", "background": True}, 400, "invalid_request_error", "background"),
        ({"input": "x", "previous_response_id": "r"}, 404, "invalid_request_error", "response_id"),
        ({"input": "x", "model": "nope"}, 404, "NotFoundError", "model"),
    ],
)
async def test_responses_refusals_are_vllms(
    sim_server: StartSim, fields: dict[str, Any], status: int, kind: str, param: str
) -> None:
    answer = await respond(sim_server, **fields)
    assert answer.status == status
    assert (answer.json["error"]["type"], answer.json["error"]["param"]) == (kind, param)


async def test_responses_stored_answers_do_not_exist(sim_server: StartSim) -> None:
    answer = await get(await sim_server(), "/v1/responses/resp_1")
    assert answer.status == 404
    assert answer.json["error"]["message"] == "Response with id 'resp_1' not found."
