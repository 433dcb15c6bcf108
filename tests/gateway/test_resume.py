"""A chat stream that breaks after its first content goes on at another server of the same expert."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import orjson
import pytest
from openai import AsyncOpenAI

from gateway.context import RouteRecord
from gateway.sim.server import SimServer
from tests.conftest import StartGateway, quick_expert, settings_for
from tests.harness import RunningGateway

pytestmark = pytest.mark.slow

ANSWER = "One two three, four five six, seven eight nine ten. " * 4
TEXT = "please count"
BREAKS = ["cut_fin", "cut_rst", "error_event", "error_event;done=no", "hang_mid"]


@dataclass
class Pair:
    """A gateway whose generalist has two servers, and which of them a request for `TEXT` goes to."""

    gateway: RunningGateway
    first: SimServer
    second: SimServer

    async def ask(self, **fields: Any) -> Any:
        body = {"stream": True, "sim_answer": ANSWER, **fields}
        return await self.gateway.chat(fields.pop("text", TEXT), **body)

    async def record(self) -> RouteRecord:
        """The record of the request after the one that found out who is first."""
        return (await self.gateway.recorder.wait_for(2))[1]


StartPair = Callable[..., Awaitable[Pair]]


@pytest.fixture
def start_pair(start_gateway: StartGateway, sim_server: Any) -> StartPair:
    """Start a pair: `await start_pair(expert={...}, resume={...}, other sections)`."""

    async def start(expert: dict[str, Any] | None = None, **sections: Any) -> Pair:
        servers = [await sim_server(quick_expert("m")) for _ in range(2)]
        generalist = {"model": "m", "upstreams": [server.url for server in servers], "price": {"input": 1, "output": 2}}
        sections = {"resume": {"enabled": True}, **sections}
        gateway = await start_gateway(settings_for({"generalist": generalist | (expert or {})}, **sections))
        assert (await gateway.chat(TEXT)).status_code == 200
        first, second = sorted(servers, key=lambda server: not server.prompts)
        return Pair(gateway, first, second)

    return start


@pytest.fixture
async def pair(start_pair: StartPair) -> Pair:
    """A pair that resumes, and soon notices silence."""
    return await start_pair({"timeouts": {"idle_s": 0.5}})


async def resumes(pair: Pair) -> dict[str, float]:
    series = await pair.gateway.metric("pointsman_resumes_total")
    return {name.split('"')[1]: number for name, number in series.items()}


def payloads(text: str) -> list[Any]:
    found = [line[6:] for line in text.splitlines() if line.startswith("data: ")]
    return [orjson.loads(line) for line in found if line != "[DONE]"]


def said(text: str) -> str:
    deltas = [choice["delta"] for payload in payloads(text) for choice in payload.get("choices", ())]
    return "".join(delta.get("content") or "" for delta in deltas)


def is_error(text: str) -> bool:
    return "error" in payloads(text)[-1] and "[DONE]" not in text


@pytest.mark.parametrize("events", [2, 3, 9, 30])
@pytest.mark.parametrize("fault", BREAKS)
async def test_broken_stream_goes_on_as_one(pair: Pair, fault: str, events: int) -> None:
    pair.first.fault(f"{fault};events={events}")
    reply = await pair.ask()
    assert said(reply.text) == ANSWER
    assert reply.text.endswith("data: [DONE]\n\n")
    chunks = payloads(reply.text)
    assert not [chunk for chunk in chunks if "error" in chunk or "usage" in chunk]
    assert len({(chunk["id"], chunk["created"], chunk["model"]) for chunk in chunks}) == 1
    assert sum("role" in chunk["choices"][0]["delta"] for chunk in chunks) == 1
    assert [c["choices"][0]["finish_reason"] for c in chunks if c["choices"][0]["finish_reason"]] == ["stop"]


async def test_resumed_request_continues_the_text_so_far(pair: Pair) -> None:
    pair.first.fault("cut_rst;events=4")
    await pair.ask(max_tokens=100, min_tokens=2)
    body = orjson.loads(pair.second.prompts[0].body)
    assert body["messages"][:-1] == [{"role": "user", "content": TEXT}]
    assert body["messages"][-1] == {"role": "assistant", "content": "One two three"}
    assert (body["continue_final_message"], body["add_generation_prompt"]) == (True, False)
    assert (body["max_tokens"], body["min_tokens"], body["model"]) == (97, 0, "m")
    assert len(pair.second.prompts) == 1


@pytest.mark.parametrize("shown", [True, False])
async def test_resumed_answer_is_accounted_once(pair: Pair, shown: bool) -> None:
    whole = await pair.ask(stream=False)
    pair.first.fault("cut_rst;events=10")
    reply = await pair.ask(stream_options={"include_usage": shown})
    record = (await pair.gateway.recorder.wait_for(3))[2]
    usage = whole.json()["usage"]
    # The simulated template frames the text so far as a message of its own and joins it by a line feed.
    assert record.output_tokens == usage["completion_tokens"]
    assert 0 <= (record.input_tokens or 0) - usage["prompt_tokens"] <= 5
    assert (record.resumed, record.attempts, record.status, record.error) == (1, 2, 200, None)
    assert await resumes(pair) == {"attempted": 1, "succeeded": 1}
    assert record.cost == pytest.approx(((record.input_tokens or 0) + 2 * (record.output_tokens or 0)) / 1e6)
    told = [payload["usage"] for payload in payloads(reply.text) if "usage" in payload]
    assert bool(told) == shown
    for counts in told:
        assert counts["prompt_tokens"] == record.input_tokens
        assert counts["completion_tokens"] == record.output_tokens
        assert counts["total_tokens"] == counts["prompt_tokens"] + counts["completion_tokens"]


async def test_cut_at_max_tokens_is_as_long_as_without_a_break(pair: Pair) -> None:
    whole = await pair.ask(max_tokens=20)
    pair.first.fault("cut_fin;events=8")
    reply = await pair.ask(max_tokens=20)
    assert said(reply.text) == said(whole.text)
    assert payloads(reply.text)[-1]["choices"][0]["finish_reason"] == "length"


@pytest.mark.parametrize(
    "fields",
    [
        {"n": 2},
        {"logprobs": True},
        {"response_format": {"type": "json_object"}},
        {"tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]},
        {"continue_final_message": True, "add_generation_prompt": False},
        {"chat_template_kwargs": {"enable_thinking": True}},
        {"max_tokens": 3},
    ],
    ids=lambda fields: next(iter(fields)),
)
async def test_what_a_text_alone_does_not_continue_ends_in_an_error(pair: Pair, fields: dict[str, Any]) -> None:
    pair.first.fault("cut_rst;events=4", count=None)
    reply = await pair.ask(**fields)
    assert is_error(reply.text)
    assert not pair.second.prompts
    assert ((await pair.record()).resumed, (await pair.record()).error) == (0, "upstream_reset")


async def test_other_endpoints_end_in_an_error(pair: Pair) -> None:
    pair.first.fault("cut_rst;events=4", count=None)
    pair.second.fault("cut_rst;events=4", count=None)
    body = {"model": "auto", "prompt": TEXT, "stream": True}
    assert is_error((await pair.gateway.http.post("/v1/completions", json=body)).text)
    assert (await pair.record()).attempts == 1


@pytest.mark.parametrize("sections", [{"resume": {}}, {"resume": {"enabled": True, "text_characters": 5}}])
async def test_switched_off_or_too_long_ends_in_an_error(start_pair: StartPair, sections: dict[str, Any]) -> None:
    pair = await start_pair(**sections)
    pair.first.fault("error_event;events=4")
    reply = await pair.ask()
    assert said(reply.text) == "One two three"
    assert payloads(reply.text)[-1]["error"]["code"] == 500
    assert not pair.second.prompts
    assert (await pair.record()).error == "upstream_broke"


@pytest.mark.parametrize("fault", ["close_rst", "status;code=503", "status;code=400", "html", "hang", "refuse"])
async def test_other_server_fails_the_first_break_is_told(start_pair: StartPair, fault: str) -> None:
    pair = await start_pair({"timeouts": {"first_token_s": 0.3}})
    pair.first.fault("cut_rst;events=4")
    pair.second.refuse(drop=True) if fault == "refuse" else pair.second.fault(fault, count=None)
    reply = await pair.ask()
    assert said(reply.text) == "One two three"
    assert payloads(reply.text)[-1]["error"]["code"] == "upstream_reset"
    record = await pair.record()
    # A lone server is asked a second time after a reset.
    assert (record.resumed, record.error) == (0, "upstream_reset")
    assert record.attempts == (3 if fault == "close_rst" else 2)
    assert await resumes(pair) == {"attempted": 1, "failed": 1}
    assert not pair.gateway.app.state.gateway.current.fleet.states[pair.second.url].inflight


async def test_other_server_breaks_too_the_stream_ends_in_an_error(pair: Pair) -> None:
    pair.first.fault("cut_rst;events=4")
    pair.second.fault("error_event;events=3")
    reply = await pair.ask()
    assert ANSWER.startswith(said(reply.text))
    assert len(said(reply.text)) > len("One two three")
    assert is_error(reply.text)
    assert reply.text.count('"error"') == 1
    record = await pair.record()
    assert (record.resumed, record.error, record.attempts) == (1, "upstream_broke", 2)
    assert await resumes(pair) == {"attempted": 1, "failed": 1}
    assert (record.input_tokens, record.output_tokens) == (None, 5)  # three of the first, two of the second


async def test_finished_answer_without_its_end_is_not_resumed(pair: Pair) -> None:
    # Role, "One", and the finish: what is missing is usage and [DONE].
    pair.first.fault("cut_rst;events=3")
    reply = await pair.ask(sim_answer="One")
    assert not pair.second.prompts
    assert said(reply.text) == "One"
    assert is_error(reply.text)


async def test_no_unit_of_the_retry_budget_ends_in_an_error(start_pair: StartPair) -> None:
    pair = await start_pair(retries={"share": 0, "minimum": 0, "wait_s": 0.05})
    pair.first.fault("cut_rst;events=4")
    assert is_error((await pair.ask()).text)
    assert not pair.second.prompts


async def test_past_the_total_limit_nothing_is_resumed(start_pair: StartPair) -> None:
    pair = await start_pair({"timeouts": {"idle_s": 30}}, timeouts={"total_s": 1})
    pair.first.fault("hang_mid;events=4")
    reply = await pair.ask()
    assert payloads(reply.text)[-1]["error"]["code"] == "upstream_timeout"
    assert not pair.second.prompts


async def test_client_leaves_while_it_is_resumed_second_server_stops(pair: Pair) -> None:
    pair.first.fault("cut_rst;events=4")
    pair.second.fault("hang", count=None)
    sent = asyncio.create_task(pair.ask())
    await pair.second.until(lambda server: server.running == 1)
    sent.cancel()
    await pair.second.until(lambda server: server.running == 0, timeout_s=1.5)
    record = await pair.record()
    assert (record.status, record.error) == (499, "client_left")


async def test_fifty_streams_over_a_dying_server_are_all_whole(start_pair: StartPair) -> None:
    pair = await start_pair()
    pair.first.fault("cut_rst;events=12", count=None)
    replies = await asyncio.gather(*(pair.ask() for _ in range(50)))
    assert {said(reply.text) for reply in replies} == {ANSWER}
    states = pair.gateway.app.state.gateway.current.fleet.states
    assert [state.inflight for state in states.values()] == [0, 0]
    assert pair.gateway.app.state.gateway.retries.retries == 0


async def test_official_client_reads_one_stream(pair: Pair) -> None:
    pair.first.fault("cut_rst;events=12")
    client = AsyncOpenAI(base_url=f"{pair.gateway.url}/v1", api_key="none", max_retries=0)
    asked: Any = {"model": "auto", "messages": [{"role": "user", "content": TEXT}]}
    async with (
        client,
        await client.chat.completions.create(**asked, stream=True, extra_body={"sim_answer": ANSWER}) as stream,
    ):
        text = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
    assert text == ANSWER
