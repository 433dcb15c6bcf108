"""The data plane through the front door: real socket, real client, simulated experts."""

import re
from typing import Any

import orjson
import pytest
from openai import AsyncOpenAI

from gateway.types import Endpoint
from tests.conftest import Town, quick_expert, settings_for

BODIES: dict[Endpoint, dict[str, Any]] = {
    Endpoint.CHAT: {"model": "auto", "messages": [{"role": "user", "content": "some math please"}]},
    Endpoint.COMPLETIONS: {"model": "auto", "prompt": "some math please"},
    Endpoint.RESPONSES: {"model": "auto", "input": "some math please"},
    Endpoint.MESSAGES: {
        "model": "auto",
        "max_tokens": 50,
        "messages": [{"role": "user", "content": [{"type": "text", "text": "some math please"}]}],
    },
}


_TIMES_AND_IDS = re.compile(rb'"created(_at)?":\d+|"completed_at":\d+|"(resp|msg|call|fc|chatcmpl-tool)[_-][0-9a-f]+"')


def events_of(body: bytes) -> list[bytes]:
    return [event for event in body.split(b"\n\n") if event]


@pytest.mark.parametrize("endpoint", BODIES)
@pytest.mark.parametrize("stream", [False, True])
async def test_answer_goes_to_the_expert_and_says_why(town: Town, endpoint: Endpoint, stream: bool) -> None:
    reply = await town.gateway.http.post(endpoint.path, json={**BODIES[endpoint], "stream": stream})
    assert reply.status_code == 200
    assert reply.headers["content-type"].startswith("text/event-stream" if stream else "application/json")
    assert "simulated" in reply.text
    shown = {k: v for k, v in reply.headers.items() if k.startswith("x-pointsman-")}
    assert float(shown.pop("x-pointsman-overhead-ms")) > 0
    assert shown == {
        "x-pointsman-expert": "math",
        "x-pointsman-domain": "math",
        "x-pointsman-confidence": "0.9700",
        "x-pointsman-reason": "confident",
        "x-pointsman-policy": "modem",
        "x-pointsman-fallbacks": "0",
    }
    assert town.servers["math"].prompts[-1].path == endpoint.path
    (record,) = await town.gateway.recorder.wait_for(1)
    assert (record.endpoint, record.chosen, record.status, record.error) == (endpoint.value, "math", 200, None)
    assert record.request_id == reply.headers["x-request-id"]
    assert record.input_tokens
    assert record.output_tokens
    assert record.cost == pytest.approx((record.input_tokens + 2 * record.output_tokens) / 1e6)
    assert (record.time_to_first_byte_s is not None) == stream


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("endpoint", BODIES)
async def test_answer_bytes_equal_the_experts_own(town: Town, endpoint: Endpoint, stream: bool) -> None:
    body = {**BODIES[endpoint], "stream": stream}
    headers = {"x-request-id": "same-id"}
    through = await town.gateway.http.post(endpoint.path, json={**body, "model": "math"}, headers=headers)
    direct = await town.gateway.http.post(
        town.servers["math"].url + endpoint.path, json={**body, "model": "sim/math"}, headers=headers
    )
    assert direct.status_code == 200
    assert without_times(through.content) == without_times(direct.content)


def without_times(body: bytes) -> bytes:
    import re

    return re.sub(
        rb'"created(_at)?":\d+|"completed_at":\d+|"(resp|msg|call|fc|chatcmpl-tool)[_-][0-9a-f]+"', b'"t"', body
    )


async def test_stream_usage_is_asked_for_and_hidden(town: Town) -> None:
    reply = await town.gateway.chat("math", stream=True)
    assert orjson.loads(town.servers["math"].prompts[-1].body)["stream_options"] == {"include_usage": True}
    assert b'"usage"' not in reply.content
    assert events_of(reply.content)[-1] == b"data: [DONE]"


async def test_stream_usage_is_shown_to_who_asks(town: Town) -> None:
    reply = await town.gateway.chat("math", stream=True, stream_options={"include_usage": True})
    usage = orjson.loads(events_of(reply.content)[-2].removeprefix(b"data: "))
    assert usage["choices"] == []
    assert usage["usage"]["completion_tokens"] > 0


async def test_stream_other_options_are_kept(town: Town) -> None:
    options = {"include_usage": False, "continuous_usage_stats": False}
    await town.gateway.chat("math", stream=True, stream_options=options)
    sent = orjson.loads(town.servers["math"].prompts[-1].body)["stream_options"]
    assert sent == {"include_usage": True, "continuous_usage_stats": False}


async def test_unknown_fields_reach_the_expert_unchanged(town: Town) -> None:
    fields: dict[str, Any] = {
        "top_k": 3,
        "brand_new": {"a": [1, None, 2.5]},
        "chat_template_kwargs": {"enable_thinking": False},
    }
    await town.gateway.chat("math", **fields)
    sent = orjson.loads(town.servers["math"].prompts[-1].body)
    assert {name: sent[name] for name in fields} == fields
    assert sent["model"] == "sim/math"


async def test_upstream_gets_only_our_headers(town: Town) -> None:
    body = BODIES[Endpoint.CHAT]
    headers = {"authorization": "Bearer secret", "cookie": "a=b", "x-internal": "1", "x-request-id": "id-1"}
    await town.gateway.http.post("/v1/chat/completions", json=body, headers=headers)
    got = {name.lower(): value for name, value in town.servers["math"].prompts[-1].headers.items()}
    assert got.pop("host")
    assert got.pop("content-length")
    assert got == {
        "accept": "*/*",
        "content-type": "application/json",
        "user-agent": "pointsman",
        "x-request-id": "id-1",
    }


async def test_expert_key_is_sent_and_never_shown(start_gateway: Any, sim_server: Any, monkeypatch: Any) -> None:
    monkeypatch.setenv("MATH_KEY", "canary-key")
    server = await sim_server(quick_expert("m", api_key="canary-key"))
    settings = settings_for({"generalist": {"model": "m", "upstreams": [server.url], "api_key_env": "MATH_KEY"}})
    gateway = await start_gateway(settings)
    reply = await gateway.chat("hello")
    assert reply.status_code == 200
    everything = reply.text + str(reply.headers) + (await gateway.http.get("/metrics")).text + repr(gateway.app.state)
    assert "canary" not in everything


@pytest.mark.row("A19")
async def test_wrong_expert_key_is_our_problem_not_the_clients(start_gateway: Any, sim_server: Any) -> None:
    server = await sim_server(quick_expert("m", api_key="right"))
    gateway = await start_gateway(settings_for({"generalist": {"model": "m", "upstreams": [server.url]}}))
    reply = await gateway.chat("hello")
    assert (reply.status_code, reply.json()["error"]["code"]) == (502, "upstream_auth")


@pytest.mark.parametrize(("shown", "count"), [("all", 7), ("expert", 1), ("none", 0)])
async def test_decision_headers_are_shown_as_far_as_set(start_town: Any, shown: str, count: int) -> None:
    town = await start_town(server={"port": 0, "log_requests": False, "decision_headers": shown})
    for stream in (False, True):
        reply = await town.gateway.chat("math", stream=stream)
        assert sum(name.startswith("x-pointsman-") for name in reply.headers) == count


async def test_metrics_count_the_request(town: Town) -> None:
    await town.gateway.chat("math", stream=True)
    await town.gateway.recorder.wait_for(1)
    requests = await town.gateway.metric("pointsman_requests_total")
    assert requests == {
        'pointsman_requests_total{chosen="math",domain="math",endpoint="chat",reason="confident",status_class="2xx"}': 1
    }
    assert set((await town.gateway.metric("pointsman_upstream_inflight")).values()) == {0}
    tokens = await town.gateway.metric("pointsman_tokens_total")
    assert tokens['pointsman_tokens_total{chosen="math",direction="output"}'] > 0


async def test_openai_client_streams_tools_and_errors(town: Town) -> None:
    tools: Any = [
        {
            "type": "function",
            "function": {
                "name": "add",
                "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]},
            },
        }
    ]
    async with AsyncOpenAI(base_url=town.gateway.url + "/v1", api_key="x", max_retries=0) as client:
        stream = await client.chat.completions.create(
            model="auto", messages=[{"role": "user", "content": "math"}], stream=True
        )
        text = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
        assert "sim/math" in text
        called = await client.chat.completions.create(
            model="auto", messages=[{"role": "user", "content": "math"}], tools=tools, tool_choice="required"
        )
        assert called.choices[0].message.tool_calls
        assert "a" in orjson.loads(called.choices[0].message.tool_calls[0].function.arguments)  # type: ignore[union-attr]
        assert {model.id for model in (await client.models.list()).data} >= {"auto", "auto/math", "math", "generalist"}
        from openai import NotFoundError

        with pytest.raises(NotFoundError) as caught:
            await client.chat.completions.create(model="gpt-9", messages=[{"role": "user", "content": "x"}])
        assert caught.value.code == "model_not_found"
        assert caught.value.request_id


async def test_embeddings_go_to_the_embedding_expert(start_town: Any, sim_server: Any) -> None:
    embedder = await sim_server(quick_expert("sim/embed", serves=frozenset({"embeddings"})))
    town = await start_town(
        changes={"coding": {"model": "sim/embed", "upstreams": [embedder.url], "serves": ["embeddings"]}}
    )
    for model in ("auto", "coding", "sim/embed"):
        reply = await town.gateway.http.post("/v1/embeddings", json={"model": model, "input": ["math", "b"]})
        assert reply.status_code == 200, reply.text
        assert len(reply.json()["data"]) == 2
        assert reply.headers["x-pointsman-expert"] == "coding"
    refused = await town.gateway.http.post("/v1/embeddings", json={"model": "math", "input": "x"})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "model")
    chat = await town.gateway.chat("coding")
    assert (chat.headers["x-pointsman-expert"], chat.headers["x-pointsman-reason"]) == ("generalist", "capability")


async def test_embeddings_without_an_expert_are_refused(town: Town) -> None:
    reply = await town.gateway.http.post("/v1/embeddings", json={"model": "auto", "input": "x"})
    assert reply.status_code == 400
    assert "embeddings" in reply.json()["error"]["message"]
