"""The cache through real sockets: what clients see, who gets whose answers, what records and metrics say."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest
from openai import AsyncOpenAI

from tests.conftest import Town, quick_expert
from tests.faults.raw import Connection, request
from tests.waiting import until

both = pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
ON: dict[str, Any] = {"cache": {"enabled": True}}
GREETING: dict[str, Any] = {"model": "auto", "messages": [{"role": "user", "content": "math hello"}], "temperature": 0}


async def ask(
    town: Town, headers: dict[str, str] | None = None, path: str = "/v1/chat/completions", **body: Any
) -> Any:
    fields = body if "prompt" in body or "input" in body else {**GREETING, **body}
    return await town.gateway.http.post(path, json={"model": "auto", **fields}, headers=headers or {})


def seen(reply: Any) -> str:
    return str(reply.headers.get("x-pointsman-cache"))


def asked(town: Town) -> int:
    return sum(len(server.prompts) for server in town.servers.values())


async def test_off_by_default_and_says_nothing(town: Town) -> None:
    for _ in range(2):
        reply = await ask(town)
        assert "x-pointsman-cache" not in reply.headers
        assert "age" not in reply.headers
    assert asked(town) == 2
    record, _ = await town.gateway.recorder.wait_for(2)
    assert (record.cache, record.cached) == (None, False)


@both
async def test_same_request_again_gets_the_same_bytes_and_asks_nobody(start_town: Any, stream: bool) -> None:
    town = await start_town(**ON)
    first, second = await ask(town, stream=stream), await ask(town, stream=stream)
    assert (seen(first), seen(second)) == ("miss", "hit")
    assert first.content == second.content
    assert first.headers["content-type"] == second.headers["content-type"]
    assert (second.headers["age"], "age" in first.headers) == ("0", False)
    assert first.headers["x-request-id"] != second.headers["x-request-id"]
    assert second.headers["x-pointsman-expert"] == "math"
    assert asked(town) == 1


async def test_record_of_a_hit_costs_nothing_and_counts_no_tokens(start_town: Any) -> None:
    town = await start_town(changes={"generalist": {"price": {"input": 4.0, "output": 8.0}}}, **ON)
    usage = (await ask(town)).json()["usage"]
    await ask(town)
    first, second = await town.gateway.recorder.wait_for(2)
    cost = (usage["prompt_tokens"] * 1.0 + usage["completion_tokens"] * 2.0) / 1e6
    assert (first.cache, first.cached, first.cost) == ("miss", False, pytest.approx(cost))
    assert first.baseline_cost == pytest.approx(4 * cost)
    assert first.saving == pytest.approx(3 * cost)
    assert (second.cache, second.cached, second.cost) == ("hit", True, 0.0)
    assert (second.input_tokens, second.output_tokens, second.attempts, second.chosen) == (0, 0, 0, "math")
    assert second.saving == pytest.approx(4 * cost)
    assert (await town.gateway.metric("pointsman_cache_requests_total")) == {
        'pointsman_cache_requests_total{outcome="hit"}': 1.0,
        'pointsman_cache_requests_total{outcome="miss"}': 1.0,
    }
    assert list((await town.gateway.metric("pointsman_cache_entries")).values()) == [1.0]
    tokens = await town.gateway.metric("pointsman_tokens_total")
    assert sum(tokens.values()) == usage["total_tokens"]


async def test_stream_is_given_with_or_without_usage_as_each_client_wants_it(start_town: Any) -> None:
    town = await start_town(**ON)
    options: dict[str, Any] = {"stream": True, "stream_options": {"include_usage": True}}
    bare, wanted = await ask(town, stream=True), await ask(town, **options)
    again = await ask(town, stream=True)
    assert [seen(reply) for reply in (bare, wanted, again)] == ["miss", "hit", "hit"]
    assert bare.content == again.content
    assert b'"usage"' not in bare.content
    assert b'"usage":{' in wanted.content.replace(b" ", b"")
    records = await town.gateway.recorder.wait_for(3)
    assert [record.cost for record in records[1:]] == [0.0, 0.0]


async def test_openai_client_reads_a_stream_from_the_cache(start_town: Any) -> None:
    town = await start_town(**ON)
    client = AsyncOpenAI(base_url=f"{town.gateway.url}/v1", api_key="none", max_retries=0)
    texts = []
    async with client:
        for _ in range(2):
            stream: Any = await client.chat.completions.create(**GREETING, stream=True)
            texts.append("".join([c.choices[0].delta.content or "" async for c in stream if c.choices]))
    assert texts[0]
    assert texts[0] == texts[1]
    assert asked(town) == 1


async def test_key_never_reads_another_keys_answer(start_town: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEY_A", "secret-a-0123456789abcdef")
    monkeypatch.setenv("KEY_B", "secret-b-0123456789abcdef")
    town = await start_town(keys={"a": {"key_env": "KEY_A"}, "b": {"key_env": "KEY_B"}}, **ON)
    a, b = ({"authorization": f"Bearer secret-{key}-0123456789abcdef"} for key in "ab")
    for stream in (False, True):
        outcomes = [seen(await ask(town, who, stream=stream)) for who in (a, b, a, b)]
        assert outcomes == ["miss", "miss", "hit", "hit"]
    assert (await ask(town)).status_code == 401


async def test_shared_scope_is_for_all_keys(start_town: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEY_A", "secret-a-0123456789abcdef")
    monkeypatch.setenv("KEY_B", "secret-b-0123456789abcdef")
    keys = {"a": {"key_env": "KEY_A"}, "b": {"key_env": "KEY_B"}}
    town = await start_town(keys=keys, cache={"enabled": True, "scope": "shared"})
    a, b = ({"authorization": f"Bearer secret-{key}-0123456789abcdef"} for key in "ab")
    assert [seen(await ask(town, who)) for who in (a, b)] == ["miss", "hit"]


@pytest.mark.parametrize("fields", [{"temperature": 0.5}, {"temperature": None}, {"n": 2}])
async def test_what_may_come_out_otherwise_is_bypassed(start_town: Any, fields: dict[str, Any]) -> None:
    town = await start_town(**ON)
    assert [seen(await ask(town, **fields)) for _ in range(2)] == ["bypass", "bypass"]
    assert asked(town) == 2


async def test_cache_control_of_the_client_is_obeyed(start_town: Any) -> None:
    town = await start_town(**ON)
    wishes = ["no-store", "", "no-cache", "max-age=60", "no-store", "no-cache, no-store"]
    outcomes = [seen(await ask(town, {"cache-control": wish})) for wish in wishes]
    assert outcomes == ["bypass", "miss", "miss", "hit", "bypass", "bypass"]


async def test_second_line_of_cache_control_counts(start_town: Any) -> None:
    town = await start_town(**ON)
    await ask(town)
    lines = [("cache-control", "no-store"), ("cache-control", "max-age=60")]
    reply = await town.gateway.http.post("/v1/chat/completions", json=GREETING, headers=lines)
    assert seen(reply) == "bypass"


async def test_answer_is_gone_after_its_time(start_town: Any) -> None:
    town = await start_town(cache={"enabled": True, "ttl_s": 0.2})
    outcomes = [seen(await ask(town)) for _ in range(2)]
    await asyncio.sleep(0.25)
    assert [*outcomes, seen(await ask(town))] == ["miss", "hit", "miss"]


@pytest.mark.parametrize("fault", ["status;code=400", "status;code=500", "status;code=429"])
@both
async def test_errors_are_not_kept(start_town: Any, fault: str, stream: bool) -> None:
    town = await start_town(**ON)
    for server in town.servers.values():
        server.fault(fault, count=None)
    assert (await ask(town, stream=stream)).status_code >= 400
    for server in town.servers.values():
        server.clear_faults()
    reply = await ask(town, stream=stream)
    assert (reply.status_code, seen(reply)) == (200, "miss")


@pytest.mark.parametrize("fault", ["cut_fin;events=3", "cut_rst;events=3", "error_event;events=3"])
async def test_broken_stream_is_not_kept(start_town: Any, fault: str) -> None:
    town = await start_town(**ON)
    town.servers["math"].fault(fault)
    broken = await ask(town, stream=True)
    assert b"[DONE]" not in broken.content
    reply = await ask(town, stream=True)
    assert seen(reply) == "miss"
    assert b"[DONE]" in reply.content


async def test_malformed_stream_passes_and_is_not_kept(start_town: Any) -> None:
    town = await start_town(**ON)
    town.servers["math"].fault("malformed;kind=bad_json")
    assert (await ask(town, stream=True)).content.endswith(b"data: [DONE]\n\n")
    assert seen(await ask(town, stream=True)) == "miss"


async def test_fallbacks_answer_is_not_the_experts(start_town: Any) -> None:
    town = await start_town(**ON)
    town.servers["math"].fault("status;code=503", count=1)
    first = await ask(town)
    assert (first.headers["x-pointsman-expert"], seen(first)) == ("generalist", "miss")
    await asyncio.sleep(0.5)
    assert seen(await ask(town)) == "miss"


async def test_client_that_leaves_in_a_stream_leaves_nothing_behind(start_town: Any) -> None:
    town = await start_town(**ON)
    cache = town.gateway.app.state.gateway.cache
    town.servers["math"].fault("hang_mid;events=4")
    async with Connection(town.gateway.url) as client:
        await client.send(request(orjson.dumps({**GREETING, "stream": True})))
        await until(lambda: cache.state().held_bytes)
        client.leave(reset=True)
        await town.gateway.recorder.wait_for(1)
    assert (len(cache), cache.state().held_bytes) == (0, 0)


async def test_stream_that_another_server_finished_is_not_kept(start_town: Any, sim_server: Any) -> None:
    servers = [await sim_server(quick_expert("sim/math", "math")) for _ in range(2)]
    upstreams = {"upstreams": [server.url for server in servers]}
    town = await start_town(changes={"math": upstreams}, resume={"enabled": True}, **ON)
    await ask(town, stream=True, seed=99)
    (chosen,) = (server for server in servers if server.prompts)  # the one that keeps this conversation
    chosen.fault("cut_rst;events=6", count=4)
    outcomes = [await ask(town, stream=True, seed=seed) for seed in range(8) for _ in range(2)]
    assert all(reply.content.endswith(b"data: [DONE]\n\n") for reply in outcomes)
    records = (await town.gateway.recorder.wait_for(17))[1:]
    for record, again in zip(records[::2], records[1::2], strict=True):
        assert again.cache == ("miss" if record.resumed else "hit")
    assert any(record.resumed for record in records)


async def test_embeddings_are_kept_without_a_temperature(start_town: Any, sim_server: Any) -> None:
    embedder = await sim_server(quick_expert("sim/embed", serves=frozenset({"embeddings"})))
    own = {"model": "sim/embed", "upstreams": [embedder.url], "serves": ["embeddings"]}
    town = await start_town(changes={"coding": own}, **ON)
    replies = [await ask(town, path="/v1/embeddings", input=text) for text in ("one", "one", "two")]
    assert [seen(reply) for reply in replies] == ["miss", "hit", "miss"]
    assert replies[0].content == replies[1].content
    records = await town.gateway.recorder.wait_for(3)
    # The generalist serves no embeddings, so nothing is said of a saving.
    assert {(record.status, record.saving) for record in records} == {(200, None)}


@both
async def test_completions_are_kept(start_town: Any, stream: bool) -> None:
    town = await start_town(**ON)
    body: dict[str, Any] = {"prompt": "math one", "temperature": 0, "max_tokens": 4, "stream": stream}
    first, second = [await ask(town, path="/v1/completions", **body) for _ in range(2)]
    assert (first.status_code, seen(first), seen(second)) == (200, "miss", "hit")
    assert first.content == second.content


async def test_strategy_is_never_answered_from_the_cache(start_town: Any) -> None:
    strategies = {"per_request": {"vote": {"samples": 3}}}
    town = await start_town(strategies=strategies, **ON)
    vote = {"x-pointsman-strategy": "vote"}
    outcomes = [seen(await ask(town, headers)) for headers in (None, vote, vote, {"x-pointsman-strategy": "none"})]
    assert outcomes == ["miss", "bypass", "bypass", "hit"]


async def test_expert_with_instructions_of_its_own_and_a_pinned_request_do_not_share(start_town: Any) -> None:
    town = await start_town(changes={"math": {"rewrite": {"system": "Be brief."}}}, **ON)
    outcomes = [await ask(town), await ask(town, model="math"), await ask(town), await ask(town, model="math")]
    assert [seen(reply) for reply in outcomes] == ["miss", "miss", "hit", "hit"]
    assert outcomes[0].headers["x-pointsman-rewrite"] == outcomes[2].headers["x-pointsman-rewrite"]
    assert "x-pointsman-rewrite" not in outcomes[3].headers


async def test_hits_teach_nothing_of_the_experts_pace(start_town: Any) -> None:
    town = await start_town(**ON)
    pace = town.gateway.app.state.gateway.pace
    await ask(town, stream=True)
    await town.gateway.recorder.wait_for(1)
    before = pace.latency_s("math", 100, stream=True)
    for _ in range(20):
        await ask(town, stream=True)
    await town.gateway.recorder.wait_for(21)
    assert pace.latency_s("math", 100, stream=True) == before


async def test_many_at_once_all_get_whole_answers(start_town: Any) -> None:
    town = await start_town(cache={"enabled": True, "entries": 5})
    replies = await asyncio.gather(*(ask(town, stream=True, seed=number % 10) for number in range(80)))
    assert {reply.status_code for reply in replies} == {200}
    assert all(reply.content.endswith(b"data: [DONE]\n\n") for reply in replies)
    cache = town.gateway.app.state.gateway.cache
    assert len(cache) <= 5
    assert cache.state().held_bytes == sum(entry.size_bytes for entry in cache._entries.values())


async def test_messages_bypass(start_town: Any) -> None:
    town = await start_town(**ON)
    reply = await ask(town, path="/v1/messages", max_tokens=5)
    assert (reply.status_code, seen(reply)) == (200, "bypass")


async def test_record_tells_prices_apart_and_pinned_requests_save_nothing(start_town: Any) -> None:
    town = await start_town(changes={"math": {"price": {"input": 9.0, "output": 9.0, "cached_input": 1.0}}})
    await ask(town)
    await ask(town, model="math")
    routed, pinned = await town.gateway.recorder.wait_for(2)
    assert routed.saving is not None
    assert routed.saving < 0
    assert (pinned.cost == routed.cost, pinned.baseline_cost, pinned.saving) == (True, None, None)
    assert (routed.currency, len(routed.price_version)) == ("USD", 12)
    assert routed.price_version == pinned.price_version
    lost = await town.gateway.metric("pointsman_overspent_currency_total")
    assert lost == {'pointsman_overspent_currency_total{currency="USD"}': pytest.approx(-routed.saving)}
    spent = await town.gateway.metric("pointsman_cost_total")
    assert spent == {'pointsman_cost_total{currency="USD",expert="math"}': pytest.approx(2 * (routed.cost or 0))}
    assert orjson.loads(orjson.dumps(routed))["unpriced"] is None


async def test_expert_without_a_price_says_so_in_the_record(start_town: Any) -> None:
    town = await start_town(changes={"math": {"price": None}})
    await ask(town)
    (record,) = await town.gateway.recorder.wait_for(1)
    assert (record.cost, record.saving, record.unpriced) == (None, None, "no_price")
