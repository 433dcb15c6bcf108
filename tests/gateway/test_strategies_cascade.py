"""Cascade through real sockets: a hesitant expert's answer gives way, and clients see OpenAI's answers either way."""

import re
from typing import Any

import orjson
import pytest
from openai import AsyncOpenAI

from gateway.types import Endpoint
from tests.faults.raw import Connection, body_of, request

CASCADE = {"strategies": {"domains": {"math": {"name": "cascade", "threshold": -1.0, "tokens": 6}}}}
PATIENCE = {"timeouts": {"first_token_s": 0.5, "idle_s": 0.5, "total_s": 5}}
SURE, UNSURE = {"sim_logprob": -0.1}, {"sim_logprob": -3.0}
both = pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])


def same(body: bytes) -> bytes:
    return re.sub(rb'"created":\d+', b'"created":0', body)


def text_of(reply: Any, *, stream: bool) -> str:
    if not stream:
        return str(reply.json()["choices"][0]["message"]["content"])
    lines = [line[6:] for line in reply.text.splitlines() if line.startswith("data: {")]
    choices = [choice for line in lines for choice in orjson.loads(line)["choices"]]
    return "".join(choice["delta"].get("content") or "" for choice in choices)


@both
async def test_sure_expert_answers_byte_for_byte_as_without_a_strategy(start_town: Any, stream: bool) -> None:
    town = await start_town(**CASCADE)
    body = {"messages": [{"role": "user", "content": "math"}], "stream": stream, **SURE}
    headers = {"x-request-id": "same-id"}
    plain = {**headers, "x-pointsman-strategy": "none"}
    with_it = await town.gateway.http.post("/v1/chat/completions", json={"model": "auto", **body}, headers=headers)
    without = await town.gateway.http.post("/v1/chat/completions", json={"model": "auto", **body}, headers=plain)
    assert orjson.loads(town.servers["math"].prompts[0].body)["logprobs"] is True
    assert "logprobs" not in orjson.loads(town.servers["math"].prompts[1].body)
    assert same(with_it.content) == same(without.content)
    assert b'"logprobs":null' in with_it.content
    assert with_it.headers["x-pointsman-strategy"] == "cascade; outcome=accepted; calls=1"
    assert "x-pointsman-strategy" not in without.headers
    first, second = await town.gateway.recorder.wait_for(2)
    assert (first.strategy, first.strategy_outcome, first.calls, first.extra_cost) == ("cascade", "accepted", 1, 0)
    assert (first.chosen, first.input_tokens, first.output_tokens) == (
        "math",
        second.input_tokens,
        second.output_tokens,
    )
    assert first.cost == second.cost
    assert (second.strategy, second.strategy_outcome, second.calls) == (None, None, 1)


@both
async def test_unsure_expert_generalist_answers_and_the_try_is_accounted(start_town: Any, stream: bool) -> None:
    town = await start_town(**CASCADE)
    if stream:
        town.servers["math"].fault("hang_mid;events=9")  # role and eight tokens, two more than are judged
    reply = await town.gateway.chat("math", stream=stream, **UNSURE)
    assert "sim/generalist" in text_of(reply, stream=stream)
    assert "sim/math" not in reply.text
    assert "logprobs" not in orjson.loads(town.servers["generalist"].prompts[0].body)
    assert reply.headers["x-pointsman-strategy"] == "cascade; outcome=escalated; calls=2"
    assert (reply.headers["x-pointsman-expert"], reply.headers["x-pointsman-fallbacks"]) == ("generalist", "0")
    (record,) = await town.gateway.recorder.wait_for(1)
    assert (record.chosen, record.strategy_outcome, record.calls, record.attempts) == ("generalist", "escalated", 2, 2)
    assert record.extra_input_tokens == record.input_tokens
    assert (6 <= record.extra_output_tokens <= 8) == stream, "a dropped stream counts as far as it got"
    assert record.extra_cost == pytest.approx((record.extra_input_tokens + 2 * record.extra_output_tokens) / 1e6)
    answer = ((record.input_tokens or 0) + 2 * (record.output_tokens or 0)) / 1e6
    assert record.cost == pytest.approx(answer + record.extra_cost)
    counted = await town.gateway.metric("pointsman_strategy_total")
    assert counted == {'pointsman_strategy_total{outcome="escalated",strategy="cascade"}': 1}
    extra = await town.gateway.metric("pointsman_strategy_extra_cost_total")
    assert list(extra.values()) == [pytest.approx(record.extra_cost)]


async def test_unsure_stream_is_cancelled_upstream_after_the_held_tokens(start_town: Any) -> None:
    town = await start_town(**CASCADE)
    math = town.servers["math"]
    math.fault("hang_mid;events=8")  # role and seven tokens, then it goes on for ever
    reply = await town.gateway.chat("math", stream=True, **UNSURE)
    assert "sim/generalist" in text_of(reply, stream=True)
    await math.until(lambda server: server.running == 0 and server.aborted == 1)
    assert set((await town.gateway.metric("pointsman_upstream_inflight")).values()) == {0.0}


async def test_sure_stream_flows_on_after_the_held_tokens(start_town: Any) -> None:
    """Only so many tokens are waited for: the first bytes are here while the expert is still generating."""
    town = await start_town(**CASCADE)
    math = town.servers["math"]
    math.fault("hang_mid;events=8")
    async with Connection(town.gateway.url) as client:
        await client.send(request(body_of(Endpoint.CHAT, stream=True, **SURE)))
        seen = await client.reader.readuntil(b"data: ")
        assert b"x-pointsman-strategy: cascade; outcome=accepted" in seen
        assert math.running == 1
        client.leave(reset=False)
    await math.until(lambda server: server.running == 0)
    (record,) = await town.gateway.recorder.wait_for(1)
    assert (record.status, record.error, record.strategy_outcome) == (499, "client_left", "accepted")


@both
async def test_client_asks_for_logprobs_and_gets_them(start_town: Any, stream: bool) -> None:
    town = await start_town(**CASCADE)
    reply = await town.gateway.chat("math", stream=stream, logprobs=True, top_logprobs=2, **SURE)
    assert '"top_logprobs":[{' in reply.text
    assert reply.headers["x-pointsman-strategy"] == "cascade; outcome=accepted; calls=1"


async def test_stream_usage_is_shown_to_who_asks_once(start_town: Any) -> None:
    town = await start_town(**CASCADE)
    options = {"include_usage": True}
    reply = await town.gateway.chat("math", stream=True, stream_options=options, **SURE)
    assert reply.text.count('"usage"') == 1
    running = {"include_usage": True, "continuous_usage_stats": True}
    reply = await town.gateway.chat("math", stream=True, stream_options=running, **SURE)
    assert reply.text.count('"usage"') > 5


@both
@pytest.mark.parametrize(
    "fault",
    ["close_rst", "status;code=503", "status;code=429", "html", "hang", "cut_fin;events=3", "error_event;events=3"],
)
async def test_expert_fails_generalist_answers(start_town: Any, fault: str, stream: bool) -> None:
    town = await start_town(**CASCADE, timeouts={**PATIENCE["timeouts"], "first_token_s": 0.3}, changes=QUICK)
    town.servers["math"].fault(fault, count=None)
    reply = await town.gateway.chat("math", stream=stream, **SURE)
    assert reply.status_code == 200
    assert "sim/generalist" in text_of(reply, stream=stream)
    assert "sim/math" not in reply.text
    (record,) = await town.gateway.recorder.wait_for(1)
    assert (record.chosen, record.error, record.strategy_outcome) == ("generalist", None, "failed_over")
    assert set((await town.gateway.metric("pointsman_upstream_inflight")).values()) == {0.0}
    await town.servers["math"].until(lambda server: server.running == 0)


QUICK = {"math": {"timeouts": {"total_s": 0.4, "idle_s": 0.3}}}


async def test_stream_falls_silent_while_held_generalist_answers(start_town: Any) -> None:
    town = await start_town(**CASCADE, changes=QUICK)
    town.servers["math"].fault("hang_mid;events=3")
    reply = await town.gateway.chat("math", stream=True, **SURE)
    assert "sim/generalist" in text_of(reply, stream=True)
    (record,) = await town.gateway.recorder.wait_for(1)
    assert (record.strategy_outcome, record.extra_output_tokens) == ("failed_over", 2)


@both
async def test_generalist_fails_after_an_unsure_answer(start_town: Any, stream: bool) -> None:
    town = await start_town(**CASCADE)
    town.servers["generalist"].fault("status;code=503", count=None)
    reply = await town.gateway.chat("math", stream=stream, **UNSURE)
    assert reply.status_code == 200
    assert "sim/math" in text_of(reply, stream=stream), "an unsure answer is better than none"
    assert '"logprobs":{' not in reply.text
    (record,) = await town.gateway.recorder.wait_for(1)
    assert (record.chosen, record.status) == ("math", 200)
    assert record.strategy_outcome == "escalation_failed"


@both
async def test_generalist_refuses_what_the_expert_took(start_town: Any, stream: bool) -> None:
    town = await start_town(**CASCADE)
    town.servers["generalist"].fault("status;code=400")
    reply = await town.gateway.chat("math", stream=stream, **UNSURE)
    assert (reply.status_code, "sim/math" in text_of(reply, stream=stream)) == (200, True)
    (record,) = await town.gateway.recorder.wait_for(1)
    assert (record.chosen, record.strategy_outcome) == ("math", "escalation_failed")


@both
async def test_request_is_refused_the_refusal_passes_through(start_town: Any, stream: bool) -> None:
    town = await start_town(**CASCADE)
    reply = await town.gateway.chat("math", stream=stream, temperature=9)
    assert (reply.status_code, reply.headers["x-pointsman-expert"]) == (400, "math")
    assert not town.servers["generalist"].prompts
    (record,) = await town.gateway.recorder.wait_for(1)
    assert (record.error, record.strategy_outcome) == ("upstream_400", "refused")


@both
async def test_everybody_fails_the_error_is_the_last_ones(start_town: Any, stream: bool) -> None:
    town = await start_town(**CASCADE)
    for server in town.servers.values():
        server.fault("close_rst", count=None)
    reply = await town.gateway.chat("math", stream=stream)
    assert (reply.status_code, reply.json()["error"]["code"]) == (502, "upstream_reset")
    (record,) = await town.gateway.recorder.wait_for(1)
    assert (record.chosen, record.strategy_outcome, record.cost) == (None, "failed", None)
    assert record.attempts >= 3


async def test_stream_breaks_after_it_was_accepted_client_gets_an_error_event(start_town: Any) -> None:
    town = await start_town(**CASCADE)
    town.servers["math"].fault("cut_fin;events=12")
    reply = await town.gateway.chat("math", stream=True, **SURE)
    assert b'"error"' in reply.content
    assert b"[DONE]" not in reply.content
    (record,) = await town.gateway.recorder.wait_for(1)
    assert (record.error, record.strategy_outcome) == ("upstream_reset", "accepted")


async def test_stream_ends_early_while_held_generalist_answers(start_town: Any) -> None:
    """The framing is whole and the stream is not: nothing has gone out yet, so this is no broken answer."""
    town = await start_town(**CASCADE)
    town.servers["math"].fault("error_event;events=3;done=no")
    reply = await town.gateway.chat("math", stream=True, **SURE)
    assert "sim/generalist" in text_of(reply, stream=True)
    assert b"[DONE]" in reply.content


async def test_short_stream_is_judged_whole(start_town: Any) -> None:
    town = await start_town(**CASCADE)
    for how, outcome in ((SURE, "accepted"), (UNSURE, "escalated")):
        reply = await town.gateway.chat("math", stream=True, sim_answer="4", **how)
        assert f"outcome={outcome}" in reply.headers["x-pointsman-strategy"]
        assert text_of(reply, stream=True) == "4"


async def test_stream_cut_anywhere_reads_the_same(start_town: Any) -> None:
    town = await start_town(**CASCADE)
    whole = await town.gateway.chat("math", stream=True, **SURE)
    for size in (1, 7, 100):
        town.servers["math"].fault(f"split;bytes={size}")
        reply = await town.gateway.chat("math", stream=True, **SURE)
        assert text_of(reply, stream=True) == text_of(whole, stream=True)
        assert '"logprobs":{' not in reply.text


async def test_reasoning_without_logprobs_is_not_held_back_for_ever(start_town: Any) -> None:
    town = await start_town(**CASCADE)
    thinking = {"chat_template_kwargs": {"enable_thinking": True}}
    reply = await town.gateway.chat("math", stream=True, **thinking, **SURE)
    assert "outcome=accepted" in reply.headers["x-pointsman-strategy"]
    town.servers["math"].fault("malformed;kind=bad_json")
    assert (await town.gateway.chat("math", stream=True, **SURE)).status_code == 200


async def test_official_client_reads_both_forms(start_town: Any) -> None:
    town = await start_town(**CASCADE)
    messages: Any = [{"role": "user", "content": "math"}]
    async with AsyncOpenAI(base_url=town.gateway.url + "/v1", api_key="x", max_retries=0) as client:
        for how in (SURE, UNSURE):
            plain = await client.chat.completions.create(model="auto", messages=messages, extra_body=how)
            stream = await client.chat.completions.create(model="auto", messages=messages, extra_body=how, stream=True)
            pieces = [chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices]
            assert plain.choices[0].message.content == "".join(pieces)
            assert plain.choices[0].logprobs is None


@both
async def test_client_leaves_in_the_hold_or_the_second_call_both_experts_stop(start_town: Any, stream: bool) -> None:
    town = await start_town(**CASCADE)
    math, generalist = town.servers["math"], town.servers["generalist"]
    for server, how in ((math, SURE), (generalist, UNSURE)):
        server.fault("hang_mid;events=3" if stream and server is math else "hang")
        async with Connection(town.gateway.url) as client:
            await client.send(request(body_of(Endpoint.CHAT, stream=stream, **how)))
            await server.until(lambda server: server.running == 1)
            client.leave(reset=True)
            await server.until(lambda server: server.running == 0)
    records = await town.gateway.recorder.wait_for(2)
    assert [(record.status, record.error) for record in records] == [(499, "client_left")] * 2
    assert [record.strategy_outcome for record in records] == ["failed", "failed"]
    assert set((await town.gateway.metric("pointsman_upstream_inflight")).values()) == {0.0}


async def test_expert_without_logprobs_is_asked_the_plain_way(start_town: Any) -> None:
    town = await start_town(**CASCADE, changes={"math": {"capabilities": ["tools"]}})
    reply = await town.gateway.chat("math", **UNSURE)
    assert reply.headers["x-pointsman-strategy"] == "cascade; outcome=skipped:capability; calls=1"
    assert "sim/math" in reply.text
    assert "logprobs" not in orjson.loads(town.servers["math"].prompts[0].body)


async def test_generalist_is_not_escalated_to_itself(start_town: Any) -> None:
    town = await start_town(strategies={"default": {"name": "cascade"}})
    reply = await town.gateway.chat("hello", **UNSURE)
    assert "outcome=skipped:same_expert" in reply.headers["x-pointsman-strategy"]


async def test_total_limit_ends_both_calls(start_town: Any) -> None:
    town = await start_town(**CASCADE, timeouts={"total_s": 0.6, "first_token_s": 5, "idle_s": 5})
    town.servers["generalist"].fault("hang")
    reply = await town.gateway.chat("math", stream=True, **UNSURE)
    assert (reply.status_code, reply.json()["error"]["code"]) == (504, "upstream_timeout")
    await town.servers["generalist"].until(lambda server: server.running == 0)


@both
async def test_expert_that_refuses_logprobs_only_is_asked_without_them(start_town: Any, stream: bool) -> None:
    town = await start_town(**CASCADE)
    town.servers["math"].fault("status;code=400;message=logprobs are off here")
    reply = await town.gateway.chat("math", stream=stream)
    assert (reply.status_code, "sim/math" in text_of(reply, stream=stream)) == (200, True)
    asked = [orjson.loads(prompt.body) for prompt in town.servers["math"].prompts]
    assert ["logprobs" in body for body in asked][-1] is False
    assert not town.servers["generalist"].prompts
    (record,) = await town.gateway.recorder.wait_for(1)
    assert (record.chosen, record.strategy_outcome, record.error, record.calls) == ("math", "unjudged", None, 2)


@both
async def test_expert_that_refuses_logprobs_and_then_dies_gives_way(start_town: Any, stream: bool) -> None:
    town = await start_town(**CASCADE)
    town.servers["math"].fault("status;code=400")
    town.servers["math"].fault("close_rst", count=None)
    reply = await town.gateway.chat("math", stream=stream)
    assert (reply.status_code, "sim/generalist" in text_of(reply, stream=stream)) == (200, True)
    (record,) = await town.gateway.recorder.wait_for(1)
    assert (record.chosen, record.strategy_outcome, record.extra_cost) == ("generalist", "failed_over", 0)


async def test_client_leaves_while_a_stream_is_held_what_it_cost_is_accounted(start_town: Any) -> None:
    town = await start_town(**CASCADE)
    math = town.servers["math"]
    math.fault("hang_mid;events=5")  # role and four tokens: fewer than are held
    async with Connection(town.gateway.url) as client:
        await client.send(request(body_of(Endpoint.CHAT, stream=True, **SURE)))
        await math.until(lambda server: server.running == 1)
        client.leave(reset=True)
        await math.until(lambda server: server.running == 0)
    (record,) = await town.gateway.recorder.wait_for(1)
    assert (record.status, record.error, record.strategy_outcome) == (499, "client_left", "failed")
    assert record.extra_input_tokens > 0
    assert record.cost == pytest.approx(record.extra_cost) != 0


async def test_escalation_past_the_deadline_accounts_the_unsure_answer_and_the_prompt(start_town: Any) -> None:
    town = await start_town(**CASCADE, changes={"generalist": {"timeouts": {"total_s": 0.3}}})
    town.servers["generalist"].fault("hang", count=None)
    town.servers["coding"].fault("hang", count=None)
    reply = await town.gateway.chat("math", **UNSURE)
    assert "sim/math" in text_of(reply, stream=False)
    (record,) = await town.gateway.recorder.wait_for(1)
    assert (record.chosen, record.strategy_outcome) == ("math", "escalation_failed")
    assert (record.extra_input_tokens, record.extra_output_tokens) == (record.prompt_token_estimate, 0)
    assert record.extra_cost > 0
