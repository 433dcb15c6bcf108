"""Who answers when the wanted or the decided expert cannot: last resort, chain behind the generalist, vectors."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType
from typing import Any

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import policies
from gateway.fallbacks import MOST_FALLBACKS, chosen_by, embedding_decision, with_specialists
from gateway.types import LAST_RESORT, NEVER_NEXT, Catalog, Reason
from tests.conftest import Town, quick_expert
from tests.gateway.routing import LABELS, catalog_of, expert, routing_of, scores_of
from tests.waiting import until

FOUR = catalog_of(expert("a", "math"), expert("b", "coding"), expert("c"))
LONG = "word " * 2_000  # about 2,500 tokens


def names_of(decision: Any) -> list[str]:
    """The chosen expert and its fallbacks."""
    return [decision.expert.name, *(found.name for found in decision.fallbacks)]


# Length against health


@pytest.mark.parametrize("fault", ["close_rst", "status;code=503"])
async def test_only_long_enough_expert_fails_gives_a_503_and_no_400(start_town: Any, fault: str) -> None:
    town = await start_town(changes={"generalist": {"context_length": 500}, "coding": {"context_length": 500}})
    town.servers["math"].fault(fault, count=None)
    reply = await town.gateway.chat(f"math {LONG}")
    assert reply.status_code in (502, 503), reply.text
    assert not town.servers["generalist"].prompts
    assert not town.servers["coding"].prompts


async def test_only_long_enough_expert_is_down_gives_a_503_with_retry_after(start_town: Any, sim_server: Any) -> None:
    long = await sim_server(quick_expert("sim/long", max_model_len=100_000))
    town: Town = await start_town(
        changes={
            "generalist": {"context_length": 500},
            "math": {"context_length": 500},
            "coding": {"model": "sim/long", "upstreams": [long.url]},
        },
    )
    fleet = town.gateway.app.state.gateway.current.fleet
    assert (await town.gateway.chat(f"math {LONG}")).headers["x-pointsman-expert"] == "coding"
    await long.stop()
    await until(lambda: not fleet.states[long.url].up)
    reply = await town.gateway.chat(f"math {LONG}")
    assert (reply.status_code, reply.headers["retry-after"]) == (503, "5")
    assert not town.servers["generalist"].prompts
    assert (await town.gateway.chat("math")).headers["x-pointsman-expert"] == "math"


async def test_nobody_is_long_enough_gets_the_expert_s_own_answer(start_town: Any, sim_server: Any) -> None:
    short = await sim_server(quick_expert("sim/short", max_model_len=100))
    lengths: dict[str, Any] = {name: {"context_length": 50} for name in ("math", "coding")}
    town = await start_town(changes={**lengths, "generalist": {"model": "sim/short", "upstreams": [short.url]}})
    reply = await town.gateway.chat(f"math {LONG}")
    assert (reply.status_code, reply.headers["x-pointsman-expert"]) == (400, "generalist")


def test_who_is_too_short_is_no_fallback() -> None:
    excluded = {"generalist": Reason.CONTEXT_LENGTH}
    routing = routing_of(scores_of(0.9, 0.05, 0.05), excluded=excluded)
    assert names_of(policies.load("modem", {}).choose(routing)) == ["a"]


# Behind the generalist


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("fault", ["close_rst", "status;code=503", "headers_cut"])
async def test_generalist_dies_and_a_specialist_answers_as_its_fallback(town: Town, fault: str, stream: bool) -> None:
    town.servers["generalist"].fault(fault, count=None)
    reply = await town.gateway.chat("health", stream=stream)
    assert (reply.status_code, reply.headers["x-pointsman-expert"]) == (200, "math")
    assert (reply.headers["x-pointsman-decided"], reply.headers["x-pointsman-reason"]) == (
        "generalist",
        "uncovered_domain",
    )
    assert int(reply.headers["x-pointsman-fallbacks"]) >= 1
    (record,) = await town.gateway.recorder.wait_for(1)
    assert (record.decided, record.chosen, record.error) == ("generalist", "math", None)


async def test_generalist_dies_and_the_likeliest_specialist_answers(start_town: Any) -> None:
    town = await start_town(router={"minimum_confidence": 0.9})
    town.servers["generalist"].fault("close_rst", count=None)
    reply = await town.gateway.chat("coding sure=0.6")
    assert (reply.headers["x-pointsman-expert"], reply.headers["x-pointsman-reason"]) == ("coding", "low_confidence")


async def test_generalist_known_to_be_down_leaves_the_prompt_to_the_likeliest(start_town: Any) -> None:
    town = await start_town(router={"minimum_confidence": 0.9})
    generalist = town.servers["generalist"]
    fleet = town.gateway.app.state.gateway.current.fleet
    await generalist.stop()
    await until(lambda: not fleet.states[generalist.url].up)
    reply = await town.gateway.chat("coding sure=0.6")
    assert (reply.headers["x-pointsman-expert"], reply.headers["x-pointsman-reason"]) == ("coding", "unhealthy")
    assert reply.headers["x-pointsman-fallbacks"] == "0"
    assert "x-pointsman-decided" not in reply.headers


async def test_switched_off_the_generalist_s_failure_is_told(start_town: Any) -> None:
    town = await start_town(policy={"specialist_fallback": False})
    town.servers["generalist"].fault("close_rst", count=None)
    reply = await town.gateway.chat("anything")
    assert (reply.status_code, reply.json()["error"]["code"]) == (502, "upstream_reset")
    assert not town.servers["math"].prompts


async def test_named_expert_has_no_fallback_and_a_named_domain_has(town: Town) -> None:
    town.servers["generalist"].fault("close_rst", count=None)
    assert (await town.gateway.chat("x", model="generalist")).status_code == 502
    town.servers["coding"].fault("close_rst", count=None)
    reply = await town.gateway.chat("x", model="auto/coding")
    assert (reply.status_code, reply.headers["x-pointsman-expert"]) == (200, "math")


async def test_key_that_may_not_use_a_specialist_does_not_get_it_as_a_fallback(
    start_town: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KEY_A", "secret-a")
    town = await start_town(keys={"a": {"key_env": "KEY_A", "experts": ["generalist", "coding"]}})
    town.servers["generalist"].fault("close_rst", count=None)
    headers = {"authorization": "Bearer secret-a"}
    body = {"model": "auto", "messages": [{"role": "user", "content": "math"}]}
    reply = await town.gateway.http.post("/v1/chat/completions", json=body, headers=headers)
    assert (reply.status_code, reply.headers["x-pointsman-expert"]) == (200, "coding")
    assert not town.servers["math"].prompts


POLICIES = st.sampled_from([name for name in policies.names() if name != "weighted"])
EXCLUDED = st.dictionaries(st.sampled_from(list(FOUR.experts)), st.sampled_from(list(NEVER_NEXT.union(*LAST_RESORT))))
QUALITY = st.none() | st.fixed_dictionaries({name: st.floats(0, 1) for name in FOUR.experts})
SHARES = st.lists(st.floats(0.01, 1), min_size=len(LABELS), max_size=len(LABELS))


@given(POLICIES, EXCLUDED, QUALITY, SHARES)
def test_chain_holds_nobody_twice_nobody_forbidden_and_is_bounded(
    name: str, excluded: dict[str, Reason], quality: Any, shares: list[float]
) -> None:
    scores = scores_of(*(share / sum(shares) for share in shares))
    routing = routing_of(scores, quality=quality, excluded=excluded, catalog=FOUR)
    if not routing.candidates:
        return
    policy = policies.load(name, {})
    decided = chosen_by(policy, routing)
    assert routing.candidate(decided.expert) is not None
    completed = with_specialists(decided, routing, policy)
    names = names_of(completed)
    assert len(names) == len(set(names))
    assert names[: len(names_of(decided))] == names_of(decided)
    assert not {excluded.get(found) for found in names[1:]} & NEVER_NEXT
    assert len(names) <= max(len(names_of(decided)), 1 + MOST_FALLBACKS)
    able = {candidate.expert.name for candidate in routing.candidates}
    assert len(names) > MOST_FALLBACKS or able <= set(names)


def test_estimates_only_speak_against_the_last_of_the_chain() -> None:
    excluded = {"a": Reason.LANGUAGE, "b": Reason.UNHEALTHY}
    routing = routing_of(None, excluded=excluded, catalog=FOUR)
    decided = chosen_by(policies.load("modem", {}), routing)
    assert names_of(with_specialists(decided, routing, None)) == ["generalist", "c", "a"]


# Vectors


def embedders(*models: str) -> Catalog:
    """A generalist that embeds, and experts `e0`, `e1`, ... of these models with the domains of `LABELS`."""
    experts = [replace(expert(f"e{i}", LABELS[i]), model=model) for i, model in enumerate(models)]
    catalog = catalog_of(*experts)
    generalist = replace(catalog.generalist, model="g")
    named = {**catalog.experts, "generalist": generalist}
    return replace(catalog, experts=MappingProxyType(named), generalist=generalist)


@pytest.mark.parametrize("reason", [Reason.UNHEALTHY, Reason.SATURATED, Reason.CONTEXT_LENGTH, Reason.BUDGET, None])
def test_embeddings_of_a_domain_keep_its_model_whatever_happens(reason: Reason | None) -> None:
    catalog = embedders("x", "y", "x")
    excluded = {} if reason is None else {"e0": reason}
    decided = embedding_decision(routing_of(None, catalog=catalog, excluded=excluded), "math")
    assert names_of(decided) == ["e0", "e2"]
    assert (decided.reason, decided.domain) == (Reason.REQUESTED_DOMAIN, "math")


def test_embeddings_of_a_domain_whose_expert_does_not_embed_go_where_auto_goes() -> None:
    excluded = {"e0": Reason.CAPABILITY, "generalist": Reason.FORBIDDEN, "e2": Reason.FORBIDDEN}
    routing = routing_of(None, catalog=embedders("x", "y", "y"), excluded=excluded)
    for domain in ("math", None):
        decided = embedding_decision(routing, domain)
        assert (names_of(decided), decided.reason) == (["e1"], Reason.CAPABILITY)


async def embed(town: Town, model: str) -> httpx2.Response:
    """Ask for a vector."""
    return await town.gateway.http.post("/v1/embeddings", json={"model": model, "input": "x"})


@pytest.fixture
async def vectors(start_town: Any, sim_server: Any) -> Town:
    """The generalist and math embed, each with a model of its own; coding does not."""
    embedding = frozenset({"embeddings"})
    servers = {
        name: await sim_server(quick_expert(f"sim/{name}-embed", serves=embedding)) for name in ("generalist", "math")
    }
    changes = {
        name: {"model": f"sim/{name}-embed", "upstreams": [servers[name].url], "serves": ["embeddings"]}
        for name in ("generalist", "math")
    }
    town: Town = await start_town(changes={**changes, "coding": {"serves": ["chat"]}})
    town.servers.update(servers)
    return town


async def test_embeddings_of_a_dead_domain_expert_are_not_made_by_another_model(vectors: Town) -> None:
    assert (await embed(vectors, "auto/math")).headers["x-pointsman-expert"] == "math"
    vectors.servers["math"].fault("close_rst", count=None)
    assert (await embed(vectors, "auto/math")).status_code == 502
    assert (await embed(vectors, "auto")).headers["x-pointsman-expert"] == "generalist"
    told = await embed(vectors, "auto/coding")
    assert (told.headers["x-pointsman-expert"], told.headers["x-pointsman-reason"]) == ("generalist", "capability")


async def test_embeddings_fall_back_to_an_expert_of_the_same_model(start_town: Any, sim_server: Any) -> None:
    embedding = frozenset({"embeddings"})
    two = [await sim_server(quick_expert("sim/embed", serves=embedding)) for _ in range(2)]
    changes = {
        name: {"model": "sim/embed", "upstreams": [server.url], "serves": ["embeddings"]}
        for name, server in zip(("math", "coding"), two, strict=True)
    }
    town: Town = await start_town(changes=changes)
    two[0].fault("close_rst", count=None)
    for model in ("auto/math", "auto"):
        reply = await embed(town, model)
        assert (reply.status_code, reply.headers["x-pointsman-expert"]) == (200, "coding")
        assert reply.headers["x-pointsman-decided"] == "math"


async def test_embeddings_over_the_price_cap_are_refused_rather_than_made_by_a_cheaper_model(
    start_town: Any, sim_server: Any
) -> None:
    embedding = frozenset({"embeddings"})
    servers = {name: await sim_server(quick_expert(f"sim/{name}-e", serves=embedding)) for name in ("math", "coding")}
    changes: dict[str, dict[str, Any]] = {
        name: {"model": f"sim/{name}-e", "upstreams": [server.url], "serves": ["embeddings"]}
        for name, server in servers.items()
    }
    changes["math"]["price"] = {"input": 1000.0, "output": 0.0}
    changes["coding"]["price"] = {"input": 0.001, "output": 0.0}
    town: Town = await start_town(changes=changes, policy={"price_cap": 0.0001})
    for model in ("auto/math", "auto"):
        reply = await embed(town, model)
        assert (reply.status_code, reply.json()["error"]["code"]) == (400, "price_cap")
    assert (await embed(town, "auto/coding")).status_code == 200
