"""Which strategy answers, if any: by domain, by default, by header; what takes none; what is refused."""

from typing import Any

import pytest

from gateway import catalog as catalogs
from gateway import strategies
from gateway.answering import too_dear
from gateway.context import RequestContext
from gateway.settings import StrategySettings
from gateway.state import Gateway
from gateway.strategies import Job, Skip, UnknownStrategy, load
from gateway.thresholds import UnknownDomain
from gateway.types import Candidate, Decision, Endpoint, Reason, RoutingInput
from router import Thresholds, extract_text
from tests.conftest import Town, settings_for
from tests.faults.raw import VALID
from tests.harness import KeywordScorer

ASK = {"per_request": {"vote": {"samples": 3}, "cascade": {}}}
EXPERT = {"model": "m", "upstreams": ["http://a:1"]}


async def ask(town: Town, strategy: str | None = None, text: str = "math", **fields: Any) -> Any:
    headers = {} if strategy is None else {"x-pointsman-strategy": strategy}
    body = {"model": "auto", "messages": [{"role": "user", "content": text}], **fields}
    return await town.gateway.http.post("/v1/chat/completions", json=body, headers=headers)


async def test_without_settings_nothing_changes(town: Town) -> None:
    reply = await ask(town)
    assert "x-pointsman-strategy" not in reply.headers
    (record,) = await town.gateway.recorder.wait_for(1)
    assert (record.strategy, record.strategy_outcome, record.calls, record.extra_cost) == (None, None, 1, 0)
    assert (record.extra_input_tokens, record.extra_output_tokens) == (0, 0)
    assert await town.gateway.metric("pointsman_strategy_total") == {}


async def test_domain_wins_over_default_and_none_turns_it_off(start_town: Any) -> None:
    choice = {
        "default": {"name": "vote", "samples": 2},
        "domains": {"math": {"name": "cascade"}, "coding": {"name": "none"}},
    }
    town = await start_town(strategies=choice)
    assert (await ask(town, text="math")).headers["x-pointsman-strategy"].startswith("cascade;")
    assert (await ask(town, text="hello")).headers["x-pointsman-strategy"].startswith("vote;")
    assert "x-pointsman-strategy" not in (await ask(town, text="coding")).headers


async def test_request_asks_for_one_that_is_offered(start_town: Any) -> None:
    town = await start_town(strategies=ASK)
    reply = await ask(town, "vote")
    assert reply.headers["x-pointsman-strategy"] == "vote; outcome=majority; calls=3"
    assert "x-pointsman-strategy" not in (await ask(town)).headers


async def test_request_turns_the_configured_one_off(start_town: Any) -> None:
    town = await start_town(strategies={"default": {"name": "vote"}})
    reply = await ask(town, "none")
    assert "x-pointsman-strategy" not in reply.headers
    assert len(town.servers["math"].prompts) == 1


@pytest.mark.parametrize("name", ["nope", "consult", "Vote", "vote.x"])
async def test_strategy_that_is_not_offered_is_a_clear_400(start_town: Any, name: str) -> None:
    town = await start_town(strategies=ASK)
    reply = await ask(town, name)
    error = reply.json()["error"]
    assert (reply.status_code, error["code"], error["type"]) == (400, "unknown_strategy", "invalid_request_error")
    assert "none, vote, cascade" in error["message"]
    assert not town.servers["math"].prompts
    (record,) = await town.gateway.recorder.wait_for(1)
    assert (record.status, record.error, record.strategy) == (400, "unknown_strategy", None)


@pytest.mark.parametrize("endpoint", [endpoint for endpoint in Endpoint if endpoint is not Endpoint.CHAT])
async def test_other_endpoints_refuse_what_is_asked_and_ignore_what_is_configured(
    start_town: Any, endpoint: Endpoint
) -> None:
    serving = {"serves": [*Endpoint]}
    changes = {name: serving for name in ("generalist", "math", "coding")}
    town = await start_town(strategies={"default": {"name": "vote"}, **ASK}, changes=changes)
    body = VALID[endpoint]
    asked = await town.gateway.http.post(endpoint.path, json=body, headers={"x-pointsman-strategy": "vote"})
    assert (asked.status_code, asked.json()["error"]["code"]) == (400, "strategy_unsupported")
    assert not any(server.prompts for server in town.servers.values())
    for headers in ({}, {"x-pointsman-strategy": "none"}):
        reply = await town.gateway.http.post(endpoint.path, json=body, headers=headers)
        assert "x-pointsman-strategy" not in reply.headers
    assert sum(len(server.prompts) for server in town.servers.values()) == 2


TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
TOOL_LOOP = [
    {"role": "user", "content": "math"},
    {"role": "assistant", "content": None, "tool_calls": [{"id": "1", "type": "function", "function": {"name": "f"}}]},
    {"role": "tool", "tool_call_id": "1", "content": "7"},
]


@pytest.mark.parametrize("asked", [None, "vote"])
@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"tools": [TOOL]}, Skip.TOOLS),
        ({"messages": TOOL_LOOP}, Skip.TOOLS),
        ({"n": 2}, Skip.SEVERAL_ANSWERS),
        ({"model": "math"}, Skip.NOT_ROUTED),
        ({"model": "sim/math"}, Skip.NOT_ROUTED),
    ],
)
async def test_request_that_no_strategy_fits_is_answered_the_plain_way(
    start_town: Any, fields: dict[str, Any], why: Skip, asked: str | None
) -> None:
    town = await start_town(strategies={"default": {"name": "vote"}, **ASK})
    reply = await ask(town, asked, **fields)
    assert reply.status_code == 200
    if asked or why is not Skip.NOT_ROUTED:
        assert reply.headers["x-pointsman-strategy"] == f"vote; outcome=skipped:{why}; calls=1"
    (record,) = await town.gateway.recorder.wait_for(1)
    assert (record.calls, record.attempts, record.extra_cost) == (1, 1, 0)
    assert sum(len(server.prompts) for server in town.servers.values()) == 1


async def test_conversation_after_a_tool_loop_may_have_a_strategy(start_town: Any) -> None:
    town = await start_town(strategies={"default": {"name": "vote", "samples": 2}})
    messages = [*TOOL_LOOP, {"role": "assistant", "content": "7"}, {"role": "user", "content": "math again"}]
    reply = await ask(town, messages=messages)
    assert "outcome=majority" in reply.headers["x-pointsman-strategy"]


async def test_key_that_may_not_use_the_generalist_is_not_escalated_to_it(
    start_town: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MATH_KEY", "secret")
    town = await start_town(
        strategies={"domains": {"math": {"name": "cascade"}}},
        keys={"pupil": {"key_env": "MATH_KEY", "experts": ["math"]}},
    )
    body = {"model": "auto", "messages": [{"role": "user", "content": "math"}], "sim_logprob": -9}
    reply = await town.gateway.http.post("/v1/chat/completions", json=body, headers={"authorization": "Bearer secret"})
    assert "outcome=skipped:ineligible" in reply.headers["x-pointsman-strategy"]
    assert "sim/math" in reply.text
    assert not town.servers["generalist"].prompts


@pytest.mark.parametrize("shown", ["expert", "none"])
async def test_strategy_is_not_told_where_decisions_are_not(start_town: Any, shown: str) -> None:
    town = await start_town(
        strategies={"default": {"name": "vote"}},
        server={"port": 0, "decision_headers": shown},
        changes={"math": {"rewrite": {"system": "x"}}},
    )
    reply = await ask(town)
    assert not {"x-pointsman-strategy", "x-pointsman-rewrite"} & reply.headers.keys()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"default": {"name": "nope"}}, "unknown strategy"),
        ({"default": {"name": "_calls"}}, "pattern"),
        ({"default": {"name": "vote", "sample": 3}}, "sample"),
        ({"default": {"name": "vote", "samples": 17}}, "samples"),
        ({"default": {"name": "vote", "samples": 1}}, "samples"),
        ({"default": {"name": "none", "samples": 3}}, "no options"),
        ({"domains": {"math": {"name": "cascade", "threshold": 0.5}}}, "threshold"),
        ({"per_request": {"nope": {}}}, "unknown strategy"),
        ({"per_request": {"none": {}}}, "unknown strategy"),
        ({"per_request": {"vote": {"experts": ["a", "a"]}}}, "twice"),
        ({"default": {"name": "cascade", "to": "nobody"}}, "unknown expert 'nobody'"),
        ({"per_request": {"vote": {"experts": ["nobody"]}}}, "unknown expert 'nobody'"),
        ({"wrong": 1}, "wrong"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        settings_for({"generalist": EXPERT}, strategies=settings)


async def test_domain_that_the_classifier_does_not_have_is_refused_at_the_start() -> None:
    settings = settings_for({"generalist": EXPERT}, strategies={"domains": {"maths": {"name": "vote"}}})
    with pytest.raises(UnknownDomain, match=r"strategies\.domains\.maths.*did you mean 'math'"):
        await Gateway(settings, scorer=KeywordScorer()).__aenter__()


def test_price_cap_counts_every_call_as_if_none_were_stopped() -> None:
    catalog = catalogs.build(settings_for({"generalist": EXPERT, "math": {**EXPERT, "domains": ["math"]}}))
    math, generalist = catalog.experts["math"], catalog.generalist
    candidates = (Candidate(generalist, cost=4.0), Candidate(math, cost=1.0))
    features = extract_text("x")
    routing = RoutingInput(features, None, catalog, Thresholds(), candidates, candidates[0])
    job = Job({}, stream=False, decision=Decision(math, Reason.CONFIDENT, (generalist,)), routing=routing)
    context = RequestContext("id", Endpoint.CHAT, catalog)
    for limit, dear in ((None, False), (5.0, False), (4.9, True)):
        context.cost_limit = limit
        for name, experts in (("cascade", (math, generalist)), ("vote", (math,) * 5)):
            asked = load(name, {}).participants(job)
            assert asked == experts
            assert (too_dear(asked, job, context) is Skip.PRICE_CAP) == dear, (name, limit)


def test_every_strategy_loads_with_its_defaults_and_names_its_experts() -> None:
    assert strategies.names() == ("cascade", "consult", "vote")
    for name in strategies.names():
        assert isinstance(load(name, {}).named_experts(), tuple)
    with pytest.raises(UnknownStrategy):
        load("../vote", {})
    assert StrategySettings().named_experts() == set()
