"""Consult through real sockets: a specialist's note helps on close calls, and never stands in the way."""

from typing import Any

import orjson
import pytest
from pydantic import ValidationError

from gateway.strategies import load
from gateway.types import Endpoint
from tests.conftest import Town
from tests.faults.raw import Connection, body_of, request

both = pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
CLOSE = "math sure=0.4"
"""Four domains: 0.4 and three times 0.2, a margin of 0.2."""


def consulting(**options: Any) -> dict[str, Any]:
    return {"strategies": {"default": {"name": "consult", **options}}}


def sent(town: Town, name: str, at: int = -1) -> dict[str, Any]:
    body: dict[str, Any] = orjson.loads(town.servers[name].prompts[at].body)
    return body


@both
async def test_close_call_generalist_answers_with_the_specialists_note(start_town: Any, stream: bool) -> None:
    town = await start_town(**consulting())
    town.servers["math"].say("  Seven is prime. {passage}  ")
    reply = await town.gateway.chat(CLOSE, stream=stream)
    assert "sim/generalist" in reply.text
    assert reply.headers["x-pointsman-strategy"] == "consult; outcome=consulted; calls=2"
    assert reply.headers["x-pointsman-expert"] == "generalist"
    note, user = sent(town, "generalist")["messages"]
    assert note["role"] == "system"
    assert "\nSeven is prime. {passage}\n" in note["content"]
    assert "may be wrong" in note["content"]
    assert user == {"role": "user", "content": CLOSE}
    asked = sent(town, "math")
    assert (asked["max_tokens"], asked.get("stream"), asked["messages"]) == (512, None, [user])
    assert not town.servers["coding"].prompts
    (record,) = await town.gateway.recorder.wait_for(1)
    assert (record.chosen, record.calls, record.strategy_outcome) == ("generalist", 2, "consulted")
    assert record.extra_input_tokens > 0
    assert record.extra_output_tokens > 0
    assert record.extra_cost == pytest.approx((record.extra_input_tokens + 2 * record.extra_output_tokens) / 1e6)


async def test_clear_call_nobody_is_consulted(start_town: Any) -> None:
    town = await start_town(**consulting())
    reply = await town.gateway.chat("math sure=0.9")
    assert reply.headers["x-pointsman-strategy"] == "consult; outcome=skipped:clear; calls=1"
    assert "sim/math" in reply.text
    assert len(town.servers["math"].prompts) == 1


async def test_margin_of_one_always_consults(start_town: Any) -> None:
    town = await start_town(**consulting(margin=1.0))
    reply = await town.gateway.chat("math sure=0.99")
    assert "outcome=consulted" in reply.headers["x-pointsman-strategy"]
    assert "sim/generalist" in reply.text


async def test_no_specialist_near_the_plain_way(start_town: Any) -> None:
    town = await start_town(**consulting(margin=1.0))
    reply = await town.gateway.chat("hello")
    assert "outcome=skipped:no_specialist" in reply.headers["x-pointsman-strategy"]


async def test_nothing_scored_the_plain_way(start_town: Any) -> None:
    town = await start_town(**consulting(margin=1.0))
    body = {"model": "auto", "messages": [{"role": "system", "content": "only rules"}]}
    reply = await town.gateway.http.post("/v1/chat/completions", json=body)
    assert "outcome=skipped:no_scores" in reply.headers["x-pointsman-strategy"]


async def test_clients_instructions_stay_first_and_alone(start_town: Any) -> None:
    town = await start_town(**consulting(template="NOTE: {passage}"))
    town.servers["math"].say("seven", "seven")
    messages: list[Any] = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "hello"},
        {"role": "user", "content": CLOSE},
    ]
    await town.gateway.chat(messages=messages)
    assert sent(town, "generalist")["messages"] == [
        {"role": "system", "content": "Be brief.\n\nNOTE: seven"},
        *messages[1:],
    ]
    messages[0] = {"role": "developer", "content": [{"type": "text", "text": "Be brief."}]}
    await town.gateway.chat(messages=messages)
    parts = sent(town, "generalist")["messages"][0]["content"]
    assert [part["text"] for part in parts] == ["Be brief.", "NOTE: seven"]


async def test_form_of_the_answer_does_not_bind_the_note(start_town: Any) -> None:
    town = await start_town(**consulting())
    form = {"type": "json_object"}
    reply = await town.gateway.chat(CLOSE, response_format=form, max_completion_tokens=100, stop=["."], logprobs=True)
    assert reply.json()["choices"][0]["logprobs"] is not None
    asked = sent(town, "math")
    assert asked.keys() == {"model", "messages", "max_tokens"}
    assert asked["max_tokens"] == 100
    assert sent(town, "generalist")["response_format"] == form


@both
@pytest.mark.parametrize("fault", ["close_fin", "status;code=503", "status;code=400", "html", "truncated_json", "hang"])
async def test_specialist_fails_or_is_late_the_generalist_answers_alone(
    start_town: Any, fault: str, stream: bool
) -> None:
    town = await start_town(**consulting(deadline_s=0.3))
    town.servers["math"].fault(fault, count=None)
    reply = await town.gateway.chat(CLOSE, stream=stream)
    assert reply.status_code == 200
    assert "sim/generalist" in reply.text
    assert sent(town, "generalist")["messages"] == [{"role": "user", "content": CLOSE}]
    (record,) = await town.gateway.recorder.wait_for(1)
    assert (record.chosen, record.error, record.strategy_outcome) == ("generalist", None, "left_out")
    await town.servers["math"].until(lambda server: server.running == 0, timeout_s=1.5)


async def test_empty_note_is_left_out(start_town: Any) -> None:
    town = await start_town(**consulting())
    reply = await town.gateway.chat(CLOSE, sim_answer=" ")
    assert "outcome=left_out" in reply.headers["x-pointsman-strategy"]


@both
async def test_note_makes_the_prompt_too_long_it_is_left_out(start_town: Any, stream: bool) -> None:
    town = await start_town(**consulting())
    town.servers["generalist"].fault("status;code=400")
    reply = await town.gateway.chat(CLOSE, stream=stream)
    assert (reply.status_code, reply.headers["x-pointsman-expert"]) == (200, "generalist")
    assert reply.headers["x-pointsman-strategy"] == "consult; outcome=left_out; calls=3"
    assert len(sent(town, "generalist")["messages"]) == 1


@both
async def test_generalist_fails_the_decided_expert_is_still_there(start_town: Any, stream: bool) -> None:
    town = await start_town(**consulting(margin=1.0))
    town.servers["generalist"].fault("close_fin", count=None)
    reply = await town.gateway.chat("math sure=0.9", stream=stream)
    assert (reply.status_code, reply.headers["x-pointsman-expert"]) == (200, "math")
    assert "may be wrong" in sent(town, "math")["messages"][0]["content"]
    (record,) = await town.gateway.recorder.wait_for(1)
    assert (record.chosen, record.strategy_outcome, record.calls, record.attempts) == ("math", "consulted", 2, 4)


@pytest.mark.parametrize("who", ["math", "generalist"])
async def test_client_leaves_the_call_under_way_stops(start_town: Any, who: str) -> None:
    town = await start_town(**consulting())
    server = town.servers[who]
    server.fault("hang", count=None)
    async with Connection(town.gateway.url) as client:
        await client.send(request(body_of(Endpoint.CHAT, messages=[{"role": "user", "content": CLOSE}])))
        await server.until(lambda server: server.running == 1)
        client.leave(reset=True)
        await server.until(lambda server: server.running == 0)
    (record,) = await town.gateway.recorder.wait_for(1)
    assert (record.status, record.error) == (499, "client_left")


def test_template_without_a_place_for_the_note_is_refused() -> None:
    with pytest.raises(ValidationError, match="passage"):
        load("consult", {"template": "no place"})
