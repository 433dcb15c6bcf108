"""Policies, keys, caps, shadow and canary through the front door."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from gateway import policies
from gateway.app import create_app
from gateway.grants import SameKey
from gateway.server import CannotServe
from gateway.server import run as serve
from gateway.settings import Settings
from gateway.settings_file import ConfigError, load, parse
from tests.conftest import Town, settings_for

GENERALIST = "generalist: {model: m, upstreams: [http://127.0.0.1:9]}\n"
TABLE = """domain,expert,score,count
math,generalist,0.60,4000
math,math,0.90,4000
math,coding,0.58,4000
coding,generalist,0.70,4000
coding,math,0.20,4000
coding,coding,0.71,4000
health,generalist,0.80,4000
health,math,0.30,4000
health,coding,0.30,4000
general,generalist,0.80,4000
general,math,0.30,4000
general,coding,0.79,4000
"""
CHEAP = {"coding": {"price": {"input": 0.1, "output": 0.2}}}


@pytest.fixture
def table(tmp_path: Path) -> str:
    """A quality table: math is best at math, coding hardly better at coding."""
    path = tmp_path / "quality.csv"
    path.write_text(TABLE)
    return str(path)


async def chosen(town: Town, text: str, model: str = "auto", **headers: str) -> tuple[str, str]:
    """Ask, and return expert and reason."""
    body = {"model": model, "messages": [{"role": "user", "content": text}]}
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    reply = await town.gateway.http.post("/v1/chat/completions", json=body, headers=names)
    assert reply.status_code == 200, reply.text
    return reply.headers["x-pointsman-expert"], reply.headers["x-pointsman-reason"]


@pytest.mark.parametrize(
    ("model", "text", "expected"),
    [
        ("auto", "math", ("math", "expected_quality")),
        ("auto", "coding", ("coding", "expected_quality")),
        ("auto", "health", ("generalist", "expected_quality")),
        ("auto", "anything", ("coding", "expected_quality")),
        ("auto:quality", "anything", ("generalist", "expected_quality")),
        ("auto:economy", "math", ("math", "quality_floor")),
        ("auto:economy", "anything", ("coding", "quality_floor")),
        ("auto:modem", "health", ("generalist", "uncovered_domain")),
        ("auto:fixed", "math", ("generalist", "fixed")),
        ("auto:weighted", "math", ("generalist", "split")),
    ],
)
async def test_measured_quality_and_cost_decide(
    start_town: Any, table: str, model: str, text: str, expected: Any
) -> None:
    town = await start_town(changes=CHEAP, policy={"name": "balanced", "quality_table": table})
    assert await chosen(town, text, model) == expected


async def test_header_key_and_configuration_choose_the_policy_in_this_order(start_town: Any, monkeypatch: Any) -> None:
    monkeypatch.setenv("KEY_A", "sk-a")
    monkeypatch.setenv("KEY_B", "sk-b")
    keys = {"a": {"key_env": "KEY_A", "policy": "fixed"}, "b": {"key_env": "KEY_B"}}
    town = await start_town(keys=keys, policies={"fixed": {"expert": "coding"}})
    a, b = {"authorization": "Bearer sk-a"}, {"authorization": "Bearer sk-b"}
    assert await chosen(town, "math", **b) == ("math", "confident")
    assert await chosen(town, "math", **a) == ("coding", "fixed")
    assert await chosen(town, "math", x_pointsman_policy="modem", **a) == ("math", "confident")
    assert await chosen(town, "math", model="auto:fixed", x_pointsman_policy="modem", **a) == ("coding", "fixed")
    records = await town.gateway.recorder.wait_for(4)
    assert [record.key for record in records] == ["b", "a", "a", "a"]
    assert [record.policy for record in records] == ["modem", "fixed", "modem", "fixed"]


async def test_key_may_use_its_own_experts_and_policies_only(start_town: Any, monkeypatch: Any) -> None:
    monkeypatch.setenv("KEY_A", "sk-a")
    keys = {"a": {"key_env": "KEY_A", "experts": ["generalist", "coding"], "policies": ["modem", "quality"]}}
    town = await start_town(keys=keys)
    headers = {"authorization": "Bearer sk-a"}
    assert await chosen(town, "math", **headers) == ("generalist", "forbidden")
    assert await chosen(town, "coding", **headers) == ("coding", "confident")
    assert await chosen(town, "anything", model="auto/math", **headers) == ("generalist", "forbidden")
    for body, code in (
        ({"model": "math"}, "expert_forbidden"),
        ({"model": "auto:fixed"}, "policy_forbidden"),
    ):
        messages = [{"role": "user", "content": "math"}]
        reply = await town.gateway.http.post(
            "/v1/chat/completions", json={**body, "messages": messages}, headers=headers
        )
        assert (reply.status_code, reply.json()["error"]["code"]) == (403, code)
        assert reply.json()["error"]["type"] == "permission_error"
    assert not town.servers["math"].prompts
    (record, *_) = await town.gateway.recorder.wait_for(5)
    assert record.excluded == {"math": "forbidden"}
    assert "sk-a" not in repr(town.gateway.recorder.records)


async def test_price_cap_excludes_the_expensive_and_refuses_when_all_are(start_town: Any) -> None:
    town = await start_town(changes=CHEAP)
    # 300 tokens are expected: 0.0006 at the generalist and math, 0.00006 at coding.
    assert await chosen(town, "math", x_pointsman_max_cost="0.0001") == ("coding", "price_cap")
    assert await chosen(town, "math", x_pointsman_max_cost="0.01") == ("math", "confident")
    for model in ("auto", "math"):
        body = {"model": model, "messages": [{"role": "user", "content": "math"}]}
        headers = {"x-pointsman-max-cost": "0.00001"}
        reply = await town.gateway.http.post("/v1/chat/completions", json=body, headers=headers)
        assert (reply.status_code, reply.json()["error"]["code"]) == (400, "price_cap")


@pytest.mark.row("F9")
async def test_spent_budget_leaves_the_cheap_expert_and_then_nobody(start_town: Any, monkeypatch: Any) -> None:
    monkeypatch.setenv("KEY_A", "sk-a")
    town = await start_town(changes=CHEAP, keys={"a": {"key_env": "KEY_A", "daily_budget": 0.0007}})
    headers = {"authorization": "Bearer sk-a"}
    assert await chosen(town, "math", **headers) == ("math", "confident")
    town.gateway.app.state.gateway.budgets.note("a", 0.0005)
    assert await chosen(town, "math", **headers) == ("coding", "budget")
    town.gateway.app.state.gateway.budgets.note("a", 0.0005)
    body = {"model": "auto", "messages": [{"role": "user", "content": "math"}]}
    reply = await town.gateway.http.post("/v1/chat/completions", json=body, headers=headers)
    assert (reply.status_code, reply.json()["error"]["code"]) == (429, "insufficient_quota")
    assert reply.headers["x-should-retry"] == "false"
    assert 1 <= int(reply.headers["retry-after"]) <= 86_400


@pytest.mark.row("F9")
async def test_what_requests_cost_is_counted_against_the_keys_budget(start_town: Any, monkeypatch: Any) -> None:
    monkeypatch.setenv("KEY_A", "sk-a")
    town = await start_town(keys={"a": {"key_env": "KEY_A", "daily_budget": 1}})
    await chosen(town, "math", authorization="Bearer sk-a")
    (record,) = await town.gateway.recorder.wait_for(1)
    gateway = town.gateway.app.state.gateway
    (grant,) = [g for g in gateway_grants(town) if g.name == "a"]
    assert record.cost
    assert gateway.budgets.left(grant) == pytest.approx(1 - record.cost)


def gateway_grants(town: Town) -> list[Any]:
    """Return all grants of the running gateway."""
    return list(town.gateway.app.state.gateway.current.grants.values())


async def test_late_expert_is_passed_over_once_it_is_known_to_be_late(start_town: Any) -> None:
    town = await start_town()
    pace = town.gateway.app.state.gateway.pace
    assert await chosen(town, "math", x_pointsman_max_latency_ms="1000") == ("math", "confident")
    (record,) = await town.gateway.recorder.wait_for(1)
    for _ in range(100):
        pace.note(record.__class__(**{**fields_of(record), "duration_s": record.output_tokens * 1.0}))
    assert await chosen(town, "math", x_pointsman_max_latency_ms="1000") == ("generalist", "latency")
    assert await chosen(town, "math") == ("math", "confident")


def fields_of(record: Any) -> dict[str, Any]:
    """Return a record's fields."""
    return {name: getattr(record, name) for name in record.__slots__}


async def test_expert_that_speaks_other_languages_is_passed_over(start_town: Any) -> None:
    town = await start_town(changes={"math": {"languages": ["en", "fr"]}})
    german = "Bitte erkläre mir, wie man eine quadratische Gleichung löst, math"
    assert await chosen(town, german) == ("generalist", "language")
    assert await chosen(town, "Please explain to me how quadratic equations are solved, math") == ("math", "confident")
    assert await chosen(town, "math") == ("math", "confident")


async def test_too_long_for_the_specialist_goes_to_who_reads_more(start_town: Any) -> None:
    town = await start_town(changes={"math": {"context_length": 200}})
    assert await chosen(town, "math") == ("math", "confident")
    body = {"model": "auto", "messages": [{"role": "user", "content": "math"}], "max_tokens": 500}
    reply = await town.gateway.http.post("/v1/route", json=body)
    assert (reply.json()["expert"], reply.json()["reason"]) == ("generalist", "context_length")
    math = reply.json()["experts"]["math"]
    assert (math["eligible"], math["excluded"]) == (False, "context_length")


async def test_shadow_decides_beside_and_is_only_recorded(start_town: Any, table: str) -> None:
    shadow = {"name": "fixed", "expert": "coding"}
    town = await start_town(shadow=shadow, policy={"name": "quality", "quality_table": table})
    assert await chosen(town, "math") == ("math", "expected_quality")
    assert await chosen(town, "math", model="generalist") == ("generalist", "pinned")
    routed, pinned = await town.gateway.recorder.wait_for(2)
    assert (routed.chosen, routed.shadow_chosen, routed.shadow_reason) == ("math", "coding", "fixed")
    assert (pinned.shadow_chosen, pinned.shadow_reason) == (None, None)
    assert not town.servers["coding"].prompts
    assert 0.85 < routed.expected_quality < 0.9
    assert routed.expected_cost > 0


async def test_canary_decides_for_its_share_and_conversations_keep_their_side(start_town: Any) -> None:
    town = await start_town(canary={"share": 0.5, "policy": {"name": "fixed", "expert": "coding"}})
    sides: dict[int, str] = {}
    for turn in range(2):
        for number in range(60):
            expert, reason = await chosen(town, "math", x_session_id=f"thread-{number}")
            assert (expert, reason) in {("math", "confident"), ("coding", "fixed"), ("coding", "session")}
            assert sides.setdefault(number, expert) == expert, turn
    records = await town.gateway.recorder.wait_for(120)
    assert {r.variant: r.policy for r in records} == {"live": "modem", "canary": "fixed"}
    assert 15 <= list(sides.values()).count("coding") <= 45
    assert await chosen(town, "math", model="auto:modem", x_session_id="thread-0") == ("math", "confident")


async def test_canary_with_another_table_expects_otherwise(start_town: Any, table: str, tmp_path: Path) -> None:
    other = tmp_path / "other.csv"
    other.write_text(TABLE.replace("math,math,0.90", "math,math,0.10"))
    policy = {"name": "quality", "quality_table": table}
    for share, expected in ((0, "math"), (1, "generalist")):
        town = await start_town(policy=policy, canary={"share": share, "quality_table": str(other)})
        assert (await chosen(town, "math"))[0] == expected


async def test_route_shows_every_expert_and_every_policy(start_town: Any, table: str) -> None:
    town = await start_town(
        changes={**CHEAP, "math": {"capabilities": ["logprobs"]}},
        policy={"name": "balanced", "quality_table": table},
        shadow={"name": "economy"},
    )
    tools = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}]
    body = {"model": "auto", "messages": [{"role": "user", "content": "anything"}], "tools": tools}
    explained = (await town.gateway.http.post("/v1/route", json=body)).json()
    experts = explained["experts"]
    assert (experts["math"]["eligible"], experts["math"]["excluded"]) == (False, "capability")
    assert experts["math"]["expected_cost"] == pytest.approx(experts["generalist"]["expected_cost"])
    assert 0.2 < experts["math"]["expected_quality"] < experts["coding"]["expected_quality"]
    assert experts["math"]["utility"] is None
    assert experts["coding"]["expected_cost"] < experts["generalist"]["expected_cost"]
    assert 0.7 < experts["coding"]["expected_quality"] < 0.79
    assert experts["coding"]["utility"] > experts["generalist"]["utility"]
    assert set(explained["policies"]) == set(policies.names())
    assert explained["policies"]["quality"] == {"expert": "generalist", "reason": "expected_quality"}
    assert explained["policies"]["balanced"]["expert"] == explained["expert"] == "coding"
    assert explained["shadow"] == {"expert": "coding", "reason": "quality_floor"}
    assert explained["variant"] == "live"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("policy: {name: fixed, expert: maths}\n", "f.yaml:2: policy: unknown expert 'maths'; there are: generalist"),
        ("policies: {weighted: {shares: {x: 1}}}\n", "f.yaml:2: policies: unknown expert 'x'"),
        ("shadow: {name: fixed, expert: x}\n", "f.yaml:2: shadow: unknown expert 'x'"),
        ("canary: {share: 2}\n", "f.yaml:2: canary.share: Input should be less than or equal to 1"),
        ("canary: {share: 0.1, policy: {name: nope}}\n", "f.yaml:2: canary.policy.name: unknown policy 'nope'"),
        ("keys: {a: {key_env: A, experts: [x]}}\n", "f.yaml:2: keys: a: no expert or policy is called 'x'"),
        ("keys: {a: {key_env: A}, b: {key_env: A}}\n", "f.yaml:2: keys: a: another key has the same key_env"),
        (
            "keys: {a: {key_env: A, policy: fixed, policies: [modem]}}\n",
            "f.yaml:2: keys.a: its own policy 'fixed' is not among `policies`",
        ),
        ("keys: {a: {key_env: A, expert: [x]}}\n", "f.yaml:2: keys.a.expert: unknown key; did you mean 'experts'?"),
    ],
)
def test_unknown_reference_is_refused_with_its_line(text: str, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(GENERALIST + text, "f.yaml")
    assert caught.value.lines()[0].startswith(problem)


def test_quality_table_is_relative_to_the_file(tmp_path: Path) -> None:
    path = tmp_path / "experts.yaml"
    path.write_text(GENERALIST + "policy: {name: quality, quality_table: q.csv}\n")
    assert load(path).policy.quality_table == str(tmp_path / "q.csv")


def test_bad_table_stops_the_start_with_its_name(tmp_path: Path) -> None:
    path = tmp_path / "q.csv"
    path.write_text("domain,expert,score,count\nmath,generalist,high,1\n")
    experts: Any = {"generalist": {"model": "m", "upstreams": ["http://127.0.0.1:9"]}}
    settings: Settings = settings_for(experts, policy={"name": "quality", "quality_table": str(path)})
    with pytest.raises(CannotServe, match=r"q\.csv"):
        serve(settings)


def test_same_key_under_two_names_is_refused(monkeypatch: Any) -> None:
    monkeypatch.setenv("KEY_A", "sk-a")
    monkeypatch.setenv("KEY_B", "sk-a")
    experts: Any = {"generalist": {"model": "m", "upstreams": ["http://127.0.0.1:9"]}}
    keys = {"a": {"key_env": "KEY_A"}, "b": {"key_env": "KEY_B"}}
    with pytest.raises(SameKey, match=r"keys\.b"):
        create_app(settings_for(experts, keys=keys))


async def test_refused_request_is_recorded_with_what_excluded_the_experts(start_town: Any) -> None:
    town = await start_town(policy={"name": "modem", "price_cap": 0})
    refused = await town.gateway.chat("math")
    assert refused.json()["error"]["code"] == "price_cap"
    named = await town.gateway.chat("math", model="math")
    assert named.json()["error"]["code"] == "price_cap"
    routed, pinned = await town.gateway.recorder.wait_for(2)
    assert set(routed.excluded.values()) == {"price_cap"}
    assert {"math", "generalist"} <= set(routed.excluded)
    assert pinned.excluded == {"math": "price_cap"}


@pytest.mark.parametrize("model", ["math", "auto/math", "auto"])
async def test_unknown_policy_is_told_whatever_the_model_is(town: Town, model: str) -> None:
    body = {"model": model, "messages": [{"role": "user", "content": "math"}]}
    headers = {"x-pointsman-policy": "nope"}
    answer = await town.gateway.http.post("/v1/chat/completions", json=body, headers=headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "unknown_policy")


@pytest.mark.parametrize(
    "fields", [{"reasoning_effort": "high"}, {"thinking": {"type": "enabled", "budget_tokens": 100}}]
)
async def test_thinking_goes_to_an_expert_that_thinks(start_town: Any, fields: dict[str, Any]) -> None:
    town = await start_town(changes={"math": {"capabilities": ["tools"]}})
    body = {"model": "auto", "messages": [{"role": "user", "content": "math"}]}
    plain = (await town.gateway.http.post("/v1/route", json=body)).json()
    thinking = (await town.gateway.http.post("/v1/route", json={**body, **fields})).json()
    assert (plain["expert"], thinking["expert"], thinking["reason"]) == ("math", "generalist", "capability")


async def test_split_of_a_policy_does_not_follow_the_canarys(start_town: Any) -> None:
    split = {"name": "weighted", "shares": {"generalist": 1, "math": 1}}
    town = await start_town(policy=split, canary={"share": 0.5, "policy": split})
    await asyncio.gather(*(town.gateway.chat(f"hello {number}") for number in range(160)))
    records = await town.gateway.recorder.wait_for(160)
    seen = Counter((record.variant, record.chosen) for record in records)
    assert len(seen) == 4
    assert min(seen.values()) > 15
