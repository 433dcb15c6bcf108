"""What the gateway knows of servers that several experts share: who is up, and who has which model."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.health import Fleet, UpstreamState
from gateway.model_list import listed
from gateway.sim.server import SimServer
from gateway.types import Expert, Reason
from tests.conftest import StartGateway, Town, quick_expert, settings_for
from tests.harness import RunningGateway
from tests.waiting import until

SLOW_PROBES = {"interval_s": 60}


def fleet_of(gateway: RunningGateway) -> Fleet:
    fleet: Fleet = gateway.app.state.gateway.current.fleet
    return fleet


def expert_of(gateway: RunningGateway, name: str) -> Expert:
    expert: Expert = gateway.app.state.gateway.catalog.experts[name]
    return expert


@pytest.fixture
async def shared(sim_server: Any) -> SimServer:
    """One server with a base model and one adapter."""
    server: SimServer = await sim_server(quick_expert("base", adapters=("math-lora",)))
    return server


def experts_on(*urls: str, **math: Any) -> dict[str, Any]:
    return {
        "generalist": {"model": "base", "upstreams": urls},
        "math": {"model": "math-lora", "upstreams": urls, "domains": ["math"], **math},
    }


async def test_experts_share_a_server_each_answers_by_its_own_model(
    start_gateway: StartGateway, shared: SimServer
) -> None:
    gateway = await start_gateway(settings_for(experts_on(shared.url)))
    answers = {text: (await gateway.chat(text)).json()["model"] for text in ("math", "hello")}
    assert answers == {"math": "math-lora", "hello": "base"}
    fleet = fleet_of(gateway)
    assert [fleet.state_of(expert_of(gateway, name)) for name in ("generalist", "math")] == [None, None]
    assert len(fleet.states) == 1


async def test_server_up_without_the_model_expert_is_missing_others_are_not(
    start_gateway: StartGateway, shared: SimServer
) -> None:
    gateway = await start_gateway(settings_for(experts_on(shared.url, model="gone-lora")))
    fleet = fleet_of(gateway)
    assert fleet.state_of(expert_of(gateway, "math")) is Reason.ADAPTER_MISSING
    assert fleet.state_of(expert_of(gateway, "generalist")) is None
    reply = await gateway.chat("math")
    assert (reply.json()["model"], reply.headers["x-pointsman-reason"]) == ("base", "adapter_missing")
    assert reply.headers["x-pointsman-fallbacks"] == "0"
    up = await gateway.metric("pointsman_expert_up")
    assert up == {'pointsman_expert_up{expert="generalist"}': 1, 'pointsman_expert_up{expert="math"}': 0}
    assert (await gateway.http.get("/health/ready")).status_code == 200


async def test_all_servers_down_is_unhealthy_not_missing(start_gateway: StartGateway, shared: SimServer) -> None:
    gateway = await start_gateway(settings_for(experts_on(shared.url, model="gone-lora")))
    shared.refuse(drop=True)
    fleet, math = fleet_of(gateway), expert_of(gateway, "math")
    await until(lambda: fleet.state_of(math) is Reason.UNHEALTHY)
    assert not fleet.usable(math)


async def test_base_model_not_listed_nobody_is_ready(start_gateway: StartGateway, shared: SimServer) -> None:
    gateway = await start_gateway(settings_for({"generalist": {"model": "other", "upstreams": [shared.url]}}))
    assert (await gateway.http.get("/health/ready")).status_code == 503
    # Trying still beats refusing, but the client never said "other".
    reply = await gateway.chat("hello")
    assert (reply.status_code, reply.json()["error"]["code"]) == (503, "upstream_model_missing")
    assert "other" not in reply.text


async def test_model_loaded_by_somebody_else_is_seen_by_the_next_probe(
    start_gateway: StartGateway, shared: SimServer
) -> None:
    gateway = await start_gateway(settings_for(experts_on(shared.url, model="late")))
    order = {"lora_name": "late", "lora_path": "/adapters/late"}
    await gateway.http.post(shared.url + "/v1/load_lora_adapter", json=order)
    fleet, math = fleet_of(gateway), expert_of(gateway, "math")
    await until(lambda: fleet.state_of(math) is None)
    assert (await gateway.chat("math")).json()["model"] == "late"
    assert fleet.context_length(math) == 8192  # the base model's


async def unload(gateway: RunningGateway, server: SimServer, name: str = "math-lora") -> None:
    reply = await gateway.http.post(server.url + "/v1/unload_lora_adapter", json={"lora_name": name})
    assert reply.status_code == 200


REQUESTS: dict[str, tuple[str, dict[str, Any]]] = {
    "chat": ("/v1/chat/completions", {"messages": [{"role": "user", "content": "math"}]}),
    "completions": ("/v1/completions", {"prompt": "math"}),
    "responses": ("/v1/responses", {"input": "math"}),
    "messages": ("/v1/messages", {"messages": [{"role": "user", "content": "math"}], "max_tokens": 50}),
}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("endpoint", REQUESTS)
async def test_model_vanishes_between_probes_request_goes_to_the_generalist_and_it_is_noted(
    start_gateway: StartGateway, shared: SimServer, endpoint: str, stream: bool
) -> None:
    gateway = await start_gateway(settings_for(experts_on(shared.url), health=SLOW_PROBES))
    await unload(gateway, shared)
    path, body = REQUESTS[endpoint]
    first, second = [await gateway.http.post(path, json={"model": "auto", "stream": stream, **body}) for _ in range(2)]
    assert (first.status_code, second.status_code) == (200, 200), first.text
    assert (first.headers["x-pointsman-expert"], first.headers["x-pointsman-fallbacks"]) == ("generalist", "1")
    # Now it is known, so the second request does not even try.
    assert (second.headers["x-pointsman-reason"], second.headers["x-pointsman-fallbacks"]) == ("adapter_missing", "0")
    assert fleet_of(gateway).states[shared.url].up
    retries = await gateway.metric("pointsman_retries_total")
    assert retries == {'pointsman_retries_total{outcome="upstream_model_missing"}': 1}


async def test_vanished_model_comes_back_with_the_probe_that_lists_it(
    start_gateway: StartGateway, shared: SimServer
) -> None:
    gateway = await start_gateway(settings_for(experts_on(shared.url)))
    fleet, math = fleet_of(gateway), expert_of(gateway, "math")
    fleet.lost(fleet.states[shared.url], "math-lora")
    assert fleet.state_of(math) is Reason.ADAPTER_MISSING
    await until(lambda: fleet.state_of(math) is None)


async def test_pinned_expert_without_its_model_is_503_in_our_words(
    start_gateway: StartGateway, shared: SimServer
) -> None:
    gateway = await start_gateway(settings_for(experts_on(shared.url, model="gone-lora")))
    reply = await gateway.chat("hello", model="math")
    assert (reply.status_code, reply.json()["error"]["code"]) == (503, "upstream_model_missing")
    assert (reply.headers["retry-after"], reply.headers["x-should-retry"]) == ("5", "false")
    assert "gone-lora" not in reply.text
    assert shared.url not in reply.text


async def test_replica_without_the_model_gets_nothing(start_gateway: StartGateway, sim_server: Any) -> None:
    having = await sim_server(quick_expert("base", adapters=("math-lora",)))
    lacking = await sim_server(quick_expert("base"))
    gateway = await start_gateway(settings_for(experts_on(lacking.url, having.url)))
    for _ in range(8):
        reply = await gateway.chat("math")
        assert (reply.json()["model"], reply.headers["x-pointsman-fallbacks"]) == ("math-lora", "0")
    assert (len(having.prompts), len(lacking.prompts)) == (8, 0)


async def test_model_vanishes_from_one_replica_the_other_answers(start_gateway: StartGateway, sim_server: Any) -> None:
    servers = [await sim_server(quick_expert("base", adapters=("math-lora",))) for _ in range(2)]
    gateway = await start_gateway(settings_for(experts_on(*(s.url for s in servers)), health=SLOW_PROBES))
    await unload(gateway, servers[0])
    replies = [await gateway.chat("math") for _ in range(8)]
    assert {reply.json()["model"] for reply in replies} == {"math-lora"}
    # One lost try at most; whether there is one is chance.
    assert sum(int(reply.headers["x-pointsman-fallbacks"]) for reply in replies) <= 1


@pytest.mark.parametrize("fault", ["html", "status;code=401", "status;code=500", "truncated_json"])
async def test_list_of_models_unreadable_counts_as_having_all(
    start_gateway: StartGateway, shared: SimServer, fault: str
) -> None:
    shared.fault(fault, count=None, path="/v1/models")
    gateway = await start_gateway(settings_for(experts_on(shared.url)))
    assert fleet_of(gateway).states[shared.url].models is None
    assert (await gateway.chat("math")).json()["model"] == "math-lora"


async def test_list_unreadable_and_model_denied_only_that_model_is_missing(
    start_gateway: StartGateway, shared: SimServer
) -> None:
    shared.fault("html", count=None, path="/v1/models")
    gateway = await start_gateway(settings_for(experts_on(shared.url), health=SLOW_PROBES))
    await unload(gateway, shared)
    assert (await gateway.chat("math")).headers["x-pointsman-expert"] == "generalist"
    assert fleet_of(gateway).states[shared.url].missing == {"math-lora"}
    assert (await gateway.chat("hello")).headers["x-pointsman-reason"] != "adapter_missing"


async def test_key_of_any_expert_opens_the_shared_servers_list(
    start_gateway: StartGateway, sim_server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UPSTREAM_KEY", "sesame")
    server = await sim_server(quick_expert("base", adapters=("math-lora",), api_key="sesame"))
    experts = experts_on(server.url)
    experts["generalist"]["api_key_env"] = "UPSTREAM_KEY"
    gateway = await start_gateway(settings_for(experts))
    assert fleet_of(gateway).states[server.url].models == frozenset({"base", "math-lora"})


def card(name: Any, length: Any = None, parent: str | None = None) -> dict[str, Any]:
    return {"id": name, "max_model_len": length, "parent": parent, "owned_by": "vllm"}


def listing(*cards: Any) -> bytes:
    return orjson.dumps({"object": "list", "data": cards})


def test_list_gives_names_and_lengths_adapters_have_their_parents() -> None:
    names, lengths = listed(200, listing(card("base", 4096), card("lora", None, "base"), card("odd", "many")))
    assert names == frozenset({"base", "lora", "odd"})
    assert lengths == {"base": 4096, "lora": 4096}


def test_list_of_another_kind_of_server_gives_lengths_only() -> None:
    other = {**card("alias", 4096), "owned_by": "llamacpp"}
    assert listed(200, listing(other)) == (None, {"alias": 4096})
    assert listed(200, listing()) == (None, {})


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (500, listing(card("base"))),
        (200, b"[]"),
        (200, b'{"data": null}'),
        (200, b'{"data": 7}'),
        (200, b'{"data": "base"}'),
        (200, b'{"data": {"id": "base"}}'),
        (200, listing({"name": "base"})),
        (200, listing(card(["base"]))),
        (200, b""),
    ],
)
def test_odd_list_is_not_known(status: int, body: bytes) -> None:
    assert listed(status, body) == (None, {})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["id", "parent", "max_model_len", "data"]), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(st.binary(max_size=40) | st.builds(lambda data: orjson.dumps({"data": data}), JSON))
def test_any_list_is_read_without_an_error(body: bytes) -> None:
    names, lengths = listed(200, body)
    assert names is None or all(isinstance(name, str) for name in names)
    assert names is not None or not lengths
    assert all(isinstance(length, int) for length in lengths.values())


def test_state_knows_what_is_missing_only_of_what_is_expected() -> None:
    state = UpstreamState("http://a", expected=frozenset({"base", "lora"}))
    assert state.has("lora")
    assert not state.missing
    state = replace(state, models=frozenset({"base", "somebody's"}))
    assert (state.has("lora"), state.missing) == (False, frozenset({"lora"}))


async def test_load_of_servers_is_read_with_the_probes_when_wanted(
    start_gateway: StartGateway, sim_server: Any
) -> None:
    server = await sim_server(quick_expert("base"))
    experts = {"generalist": {"model": "base", "upstreams": [server.url]}}
    wanted = settings_for(experts, health={"interval_s": 0.1}, balancing={"server_load": True})
    state = fleet_of(await start_gateway(wanted)).states[server.url]
    await until(lambda: state.load.told_at > 0)
    assert (state.load.waiting, state.up) == (0, True)
    unwanted = fleet_of(await start_gateway(settings_for(experts, health={"interval_s": 0.1})))
    await until(lambda: unwanted.states[server.url].probes > 3)
    assert unwanted.states[server.url].load.told_at < 0


async def test_limit_of_open_requests_is_the_largest_of_the_experts_that_share_a_server(
    start_gateway: StartGateway, shared: SimServer
) -> None:
    gateway = await start_gateway(settings_for(experts_on(shared.url, max_open=7), concurrency={"requests": 5}))
    assert fleet_of(gateway).states[shared.url].limiter.limit == 7
    gateway = await start_gateway(settings_for(experts_on(shared.url, max_open=3), concurrency={"requests": 5}))
    assert fleet_of(gateway).states[shared.url].limiter.limit == 5


async def test_server_switched_off_gets_nothing_until_it_is_switched_on(town: Town) -> None:
    fleet = fleet_of(town.gateway)
    math, generalist = (town.servers[name] for name in ("math", "generalist"))
    before = len(math.prompts)
    fleet.switch(math.url, on=False)
    try:
        answer = await town.gateway.chat("math")
        assert (answer.headers["x-pointsman-expert"], answer.headers["x-pointsman-reason"]) == (
            "generalist",
            "unhealthy",
        )
        named = await town.gateway.chat("math", model="math")
        assert (named.status_code, named.json()["error"]["code"]) == (503, "upstream_disabled")
        fleet.switch(generalist.url, on=False)
        nobody = await town.gateway.chat("hello", model="generalist")
        assert nobody.json()["error"]["code"] == "upstream_disabled"
        assert len(math.prompts) == before
    finally:
        fleet.switch(math.url, on=True)
        fleet.switch(generalist.url, on=True)
    assert (await town.gateway.chat("math")).headers["x-pointsman-expert"] == "math"


async def test_open_stream_ends_well_on_a_server_that_is_switched_off(town: Town) -> None:
    fleet, math = fleet_of(town.gateway), town.servers["math"]
    math.fault("delay;seconds=0.3", count=1)
    asking = asyncio.create_task(town.gateway.chat("math", stream=True))
    await math.until(lambda server: server.running == 1)
    fleet.switch(math.url, on=False)
    try:
        answer = await asking
        assert answer.headers["x-pointsman-expert"] == "math"
        assert answer.text.rstrip().endswith("data: [DONE]")
    finally:
        fleet.switch(math.url, on=True)


async def test_unknown_server_cannot_be_switched(town: Town) -> None:
    with pytest.raises(KeyError):
        fleet_of(town.gateway).switch("http://nowhere", on=False)
