"""Vote through real sockets: the majority's answer, one of them, in OpenAI's shape; what is not needed is stopped."""

import asyncio
from typing import Any

import orjson
import pytest
from openai import AsyncOpenAI

from gateway.types import Endpoint
from tests.conftest import Town
from tests.faults.raw import Connection, body_of, request

both = pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])


def voting(**options: Any) -> dict[str, Any]:
    return {"strategies": {"domains": {"math": {"name": "vote", **options}}}}


def bodies(town: Town, name: str = "math") -> list[dict[str, Any]]:
    return [orjson.loads(prompt.body) for prompt in town.servers[name].prompts]


def chunks_of(text: str) -> list[dict[str, Any]]:
    return [orjson.loads(line[6:]) for line in text.splitlines() if line.startswith("data: {")]


def text_of(reply: Any, *, stream: bool) -> str:
    if not stream:
        return str(reply.json()["choices"][0]["message"]["content"])
    choices = [choice for chunk in chunks_of(reply.text) for choice in chunk["choices"]]
    return "".join(choice["delta"].get("content") or "" for choice in choices)


async def idle(town: Town) -> None:
    """Assert that nothing is left running anywhere."""
    for server in town.servers.values():
        await server.until(lambda server: server.running == 0, timeout_s=1.5)
    assert set((await town.gateway.metric("pointsman_upstream_inflight")).values()) == {0.0}


@both
async def test_majority_answers_with_its_first_sample(start_town: Any, stream: bool) -> None:
    town = await start_town(**voting())
    # Equal answers in other clothes; the first that says 4 is the second sample or later.
    town.servers["math"].say("It is 5.", "It is 4.", "The answer is 4.0", r"\boxed{4}", "It is 5.")
    reply = await town.gateway.chat("math", stream=stream)
    assert text_of(reply, stream=stream) in ("It is 4.", "The answer is 4.0", r"\boxed{4}")
    assert reply.headers["x-pointsman-strategy"] == "vote; outcome=majority; calls=5"
    sent = bodies(town)
    assert len(sent) == 5
    assert all(body["temperature"] == 0.7 and "stream" not in body and "n" not in body for body in sent)
    (record,) = await town.gateway.recorder.wait_for(1)
    assert (record.chosen, record.calls, record.attempts, record.strategy_outcome) == ("math", 5, 5, "majority")
    assert record.extra_input_tokens == 4 * (record.input_tokens or 0)
    answer = ((record.input_tokens or 0) + 2 * (record.output_tokens or 0)) / 1e6
    assert record.cost == pytest.approx(answer + record.extra_cost)
    assert record.extra_cost > answer
    await idle(town)


async def test_plain_answer_has_openais_shape_and_the_usage_of_all_samples(start_town: Any) -> None:
    town = await start_town(**voting(samples=3))
    single = (await town.gateway.chat("math", sim_answer="4", model="math")).json()
    voted = (await town.gateway.chat("math", sim_answer=["4", "5", "4"], seed=7)).json()
    assert voted.keys() == single.keys()
    (choice,) = voted["choices"]
    assert choice.keys() == single["choices"][0].keys()
    assert (choice["index"], choice["message"]["content"], choice["finish_reason"]) == (0, "4", "stop")
    finished = [body for body in bodies(town)[1:]]
    assert len(finished) == 3
    usage = voted["usage"]
    assert usage["prompt_tokens"] in (2 * single["usage"]["prompt_tokens"], 3 * single["usage"]["prompt_tokens"])
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]


async def test_stream_has_openais_shape(start_town: Any) -> None:
    town = await start_town(**voting(samples=3))
    thinking = {"chat_template_kwargs": {"enable_thinking": True}}
    options = {"include_usage": True}
    reply = await town.gateway.chat("math", stream=True, sim_answer="4", stream_options=options, **thinking)
    assert reply.headers["content-type"].startswith("text/event-stream")
    assert reply.content.endswith(b"data: [DONE]\n\n")
    role, reasoning, content, finish, usage = chunks_of(reply.text)
    assert role["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert "simulated reasoning" in reasoning["choices"][0]["delta"]["reasoning"]
    assert content["choices"][0]["delta"] == {"content": "4"}
    assert (finish["choices"][0]["delta"], finish["choices"][0]["finish_reason"]) == ({}, "stop")
    assert (usage["choices"], usage["usage"]["completion_tokens"] > 0) == ([], True)
    assert {chunk["object"] for chunk in chunks_of(reply.text)} == {"chat.completion.chunk"}
    assert len({chunk["id"] for chunk in chunks_of(reply.text)}) == 1
    (record,) = await town.gateway.recorder.wait_for(1)
    assert (record.output_tokens or 0) < usage["usage"]["completion_tokens"], "the record tells the answer's own"


async def test_stream_usage_is_hidden_from_who_does_not_ask(start_town: Any) -> None:
    town = await start_town(**voting(samples=3))
    reply = await town.gateway.chat("math", stream=True, sim_answer="4")
    assert '"usage"' not in reply.text
    assert '"system_fingerprint"' in reply.text
    (record,) = await town.gateway.recorder.wait_for(1)
    assert record.output_tokens
    assert record.cost


@both
async def test_early_stop_what_cannot_change_the_outcome_is_cancelled(start_town: Any, stream: bool) -> None:
    town = await start_town(**voting(samples=7))
    math = town.servers["math"]
    hung = asyncio.get_running_loop().time()
    for _ in range(3):
        math.fault("hang")
    reply = await town.gateway.chat("math", stream=stream, sim_answer="4")
    assert asyncio.get_running_loop().time() - hung < 3
    assert text_of(reply, stream=stream) == "4"
    assert reply.headers["x-pointsman-strategy"] == "vote; outcome=majority; calls=7"
    await math.until(lambda server: server.running == 0 and server.aborted == 3)
    (record,) = await town.gateway.recorder.wait_for(1)
    # Stopped samples are counted as what a finished one cost.
    assert record.extra_output_tokens == 6 * (record.output_tokens or 0)
    await idle(town)


@both
async def test_one_call_for_all_samples(start_town: Any, stream: bool) -> None:
    town = await start_town(**voting(early_stop=False, samples=4))
    reply = await town.gateway.chat("math", stream=stream, sim_answer=["5", "4", "4", "6"])
    assert text_of(reply, stream=stream) == "4"
    assert reply.headers["x-pointsman-strategy"] == "vote; outcome=plurality; calls=1"
    (body,) = bodies(town)
    assert body["n"] == 4
    (record,) = await town.gateway.recorder.wait_for(1)
    assert (record.calls, record.extra_input_tokens) == (1, 0)
    assert record.extra_output_tokens == 3 * (record.output_tokens or 0)


@both
async def test_several_experts_vote(start_town: Any, stream: bool) -> None:
    town = await start_town(**voting(samples=4, experts=["generalist", "coding"]))
    town.servers["generalist"].say("4", "4")
    town.servers["coding"].say("4", "5")
    reply = await town.gateway.chat("math", stream=stream)
    assert text_of(reply, stream=stream) == "4"
    assert [len(bodies(town, name)) for name in ("math", "generalist", "coding")] == [0, 2, 2]
    (record,) = await town.gateway.recorder.wait_for(1)
    assert record.chosen in ("generalist", "coding")
    assert record.chosen == reply.headers["x-pointsman-expert"]


async def test_expert_that_cannot_take_the_request_does_not_vote(start_town: Any) -> None:
    town = await start_town(
        **voting(samples=3, experts=["math", "coding"]), changes={"coding": {"capabilities": ["tools"]}}
    )
    await town.gateway.chat("math", logprobs=True, sim_answer="4")
    assert [len(bodies(town, name)) for name in ("math", "coding")] == [3, 0]


async def test_no_two_samples_agree_the_first_answers(start_town: Any) -> None:
    town = await start_town(**voting(samples=3))
    reply = await town.gateway.chat("math", sim_answer=["6", "7", "8"], seed=0)
    assert reply.json()["choices"][0]["message"]["content"] == "6"
    assert "outcome=no_majority" in reply.headers["x-pointsman-strategy"]


async def test_seed_each_sample_has_its_own(start_town: Any) -> None:
    town = await start_town(**voting(samples=3, temperature=0.9))
    await town.gateway.chat("math", seed=10, sim_answer=["1", "2", "3"], temperature=0)
    assert sorted(body["seed"] for body in bodies(town)) == [10, 11, 12]
    assert {body["temperature"] for body in bodies(town)} == {0.9}
    await town.gateway.chat("math", temperature=0.3)
    assert {body["temperature"] for body in bodies(town)[3:]} == {0.3}
    assert "seed" not in bodies(town)[-1]


async def test_ids_no_two_samples_share_one(start_town: Any) -> None:
    town = await start_town(**voting(samples=3))
    headers = {"x-request-id": "mine"}
    body = {
        "model": "auto",
        "messages": [{"role": "user", "content": "math"}],
        "sim_answer": ["1", "2", "3"],
        "seed": 0,
    }
    await town.gateway.http.post("/v1/chat/completions", json=body, headers=headers)
    assert {p.headers["x-request-id"] for p in town.servers["math"].prompts} == {"mine", "mine-2", "mine-3"}


async def test_cut_off_samples_abstain(start_town: Any) -> None:
    town = await start_town(**voting(samples=3))
    reply = await town.gateway.chat("math", sim_answer="so 1 and 2 and 3 and 4", max_tokens=3)
    assert "outcome=no_majority" in reply.headers["x-pointsman-strategy"]
    assert reply.json()["choices"][0]["finish_reason"] == "length"


@both
@pytest.mark.parametrize("fault", ["close_rst", "status;code=503", "html", "hang", "truncated_json"])
async def test_some_samples_fail_the_others_decide(start_town: Any, fault: str, stream: bool) -> None:
    town = await start_town(**voting(samples=4), changes={"math": {"timeouts": {"total_s": 0.5}}})
    for _ in range(2):
        town.servers["math"].fault(fault)
    reply = await town.gateway.chat("math", stream=stream, sim_answer="4")
    assert text_of(reply, stream=stream) == "4"
    (record,) = await town.gateway.recorder.wait_for(1)
    assert (record.chosen, record.status, record.error) == ("math", 200, None)
    await idle(town)


@both
async def test_all_samples_fail_the_generalist_answers(start_town: Any, stream: bool) -> None:
    town = await start_town(**voting(samples=3))
    town.servers["math"].fault("close_fin", count=None)
    reply = await town.gateway.chat("math", stream=stream)
    assert "sim/generalist" in reply.text
    assert "vote; outcome=failed_over" in reply.headers["x-pointsman-strategy"]
    (record,) = await town.gateway.recorder.wait_for(1)
    assert (record.chosen, record.calls, record.error) == ("generalist", 4, None)


async def test_everybody_fails_the_error_is_ours(start_town: Any) -> None:
    town = await start_town(**voting(samples=3))
    for server in town.servers.values():
        server.fault("close_fin", count=None)
    reply = await town.gateway.chat("math")
    assert (reply.status_code, reply.json()["error"]["code"]) == (502, "upstream_reset")
    await idle(town)


@both
async def test_request_is_refused_the_refusal_passes_through_once(start_town: Any, stream: bool) -> None:
    town = await start_town(**voting(samples=3))
    reply = await town.gateway.chat("math", stream=stream, temperature=9)
    assert (reply.status_code, reply.json()["error"]["code"]) == (400, 400)
    assert "outcome=refused" in reply.headers["x-pointsman-strategy"]
    (record,) = await town.gateway.recorder.wait_for(1)
    assert record.error == "upstream_400"
    await idle(town)


@both
async def test_client_leaves_all_samples_stop(start_town: Any, stream: bool) -> None:
    town = await start_town(**voting(samples=6))
    math = town.servers["math"]
    math.fault("hang", count=None)
    async with Connection(town.gateway.url) as client:
        await client.send(request(body_of(Endpoint.CHAT, stream=stream)))
        await math.until(lambda server: server.running == 6)
        client.leave(reset=True)
        await math.until(lambda server: server.running == 0 and server.aborted == 6)
    (record,) = await town.gateway.recorder.wait_for(1)
    assert (record.status, record.error, record.attempts) == (499, "client_left", 6)
    assert (record.extra_input_tokens, record.extra_output_tokens) == (6 * (record.prompt_token_estimate or 0), 0)
    assert record.cost == pytest.approx(record.extra_cost) != 0
    await idle(town)
    names = {task.get_coro().__qualname__ for task in asyncio.all_tasks()}  # type: ignore[union-attr]  # all are coroutines
    assert not [name for name in names if "_Voting" in name]


async def test_total_limit_ends_all_samples(start_town: Any) -> None:
    town = await start_town(**voting(samples=3), timeouts={"total_s": 0.5})
    town.servers["math"].fault("hang", count=None)
    reply = await town.gateway.chat("math")
    assert (reply.status_code, reply.json()["error"]["code"]) == (504, "upstream_timeout")
    (record,) = await town.gateway.recorder.wait_for(1)
    assert (record.strategy_outcome, record.cost) == ("failed", pytest.approx(record.extra_cost))
    assert record.extra_input_tokens == 3 * (record.prompt_token_estimate or 0) > 0
    await idle(town)


async def test_samples_that_finished_before_the_client_left_count_in_full(start_town: Any) -> None:
    town = await start_town(**voting(samples=3))
    math = town.servers["math"]
    math.fault("hang", count=2)
    async with Connection(town.gateway.url) as client:
        await client.send(request(body_of(Endpoint.CHAT)))
        await math.until(lambda server: server.running == 2 and len(server.prompts) == 3)
        client.leave(reset=True)
        await math.until(lambda server: server.running == 0)
    (record,) = await town.gateway.recorder.wait_for(1)
    # The two that were stopped count as much as the one that finished.
    assert record.extra_output_tokens > 0
    assert record.extra_output_tokens % 3 == 0
    assert record.cost == pytest.approx(record.extra_cost)


@both
async def test_expert_that_refuses_n_is_asked_for_each_sample_alone(start_town: Any, stream: bool) -> None:
    town = await start_town(**voting(samples=3, early_stop=False))
    town.servers["math"].fault("status;code=400;message=n must be 1")
    reply = await town.gateway.chat("math", stream=stream, sim_answer="4")
    assert reply.status_code == 200
    (record,) = await town.gateway.recorder.wait_for(1)
    assert (record.strategy_outcome, record.calls) == ("majority", 4)


async def test_forty_votes_at_once_keep_apart(start_town: Any) -> None:
    town = await start_town(**voting(samples=3))
    replies = await asyncio.gather(*(town.gateway.chat("math", sim_answer=str(i)) for i in range(40)))
    assert [reply.json()["choices"][0]["message"]["content"] for reply in replies] == [str(i) for i in range(40)]
    records = await town.gateway.recorder.wait_for(40)
    assert {record.strategy_outcome for record in records} == {"majority"}
    await idle(town)


async def test_official_client_reads_both_forms(start_town: Any) -> None:
    town = await start_town(**voting())
    messages: Any = [{"role": "user", "content": "math"}]
    how: Any = {"extra_body": {"sim_answer": ["4", "4", "5"], "seed": 0}}
    async with AsyncOpenAI(base_url=town.gateway.url + "/v1", api_key="x", max_retries=0) as client:
        plain = await client.chat.completions.create(model="auto", messages=messages, **how)
        stream = await client.chat.completions.create(model="auto", messages=messages, stream=True, **how)
        chunks = [chunk async for chunk in stream]
    assert plain.choices[0].message.content == "4"
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == "4"
    assert chunks[-1].choices[0].finish_reason == "stop"


async def test_deeply_nested_body_is_refused_not_a_defect(start_town: Any) -> None:
    town = await start_town(**voting(samples=3))
    deep: Any = "x"
    for _ in range(400):
        deep = [deep]
    reply = await town.gateway.chat("math", brand_new=deep)
    assert (reply.status_code, reply.json()["error"]["code"]) == (400, "invalid_request")
