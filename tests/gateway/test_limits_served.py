"""Limits and budgets through the front door: refusals, headers, settlements of whole, streamed and lost answers."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from gateway.openai import features_of
from tests.conftest import Town
from tests.waiting import until

BODY: dict[str, Any] = {"model": "auto", "messages": [{"role": "user", "content": "math"}]}
KEY = {"authorization": "Bearer sk-a"}


@pytest.fixture
def limited(start_town: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("KEY_A", "sk-a")

    async def start(quotas: dict[str, Any] | None = None, **terms: Any) -> Town:
        town: Town = await start_town(keys={"a": {"key_env": "KEY_A", **terms}}, quotas=quotas or {})
        return town

    return start


async def ask(town: Town, **fields: Any) -> Any:
    return await town.gateway.http.post("/v1/chat/completions", json={**BODY, **fields}, headers=KEY)


async def test_requests_over_a_limit_are_refused_in_openais_form(limited: Any) -> None:
    town = await limited(requests_per_minute=3, tokens_per_minute=100_000)
    replies = [await ask(town) for _ in range(5)]
    assert [reply.status_code for reply in replies] == [200, 200, 200, 429, 429]
    assert [reply.headers["x-ratelimit-remaining-requests"] for reply in replies] == ["2", "1", "0", "0", "0"]
    assert {reply.headers["x-ratelimit-limit-tokens"] for reply in replies} == {"100000"}
    assert replies[4].json()["error"]["code"] == "rate_limit_exceeded"
    assert 1 <= int(replies[4].headers["retry-after"]) <= 20
    (*_, record) = await town.gateway.recorder.wait_for(5)
    assert (record.status, record.error, record.attempts) == (429, "rate_limit_exceeded", 0)


async def test_refused_bodies_tell_the_standing_too(limited: Any) -> None:
    town = await limited(requests_per_minute=3)
    reply = await ask(town, messages="none")
    assert (reply.status_code, reply.headers["x-ratelimit-remaining-requests"]) == (400, "3")


async def test_crowd_against_a_budget_is_not_let_over_it(limited: Any) -> None:
    town = await limited(daily_budget=0.01)
    gateway = town.gateway.app.state.gateway
    replies = await asyncio.gather(*(ask(town, max_tokens=50) for _ in range(60)))
    assert {reply.status_code for reply in replies} <= {200, 429}
    records = await town.gateway.recorder.wait_for(60)
    assert sum(record.cost or 0 for record in records) <= 0.01
    assert gateway.limits.accounts.running == 0


async def test_answers_are_settled_with_what_they_used(limited: Any) -> None:
    town = await limited(daily_budget=1, tokens_per_minute=10**9)
    gateway = town.gateway.app.state.gateway
    for stream in (False, True):
        before = len(town.gateway.recorder.records)
        assert (await ask(town, stream=stream)).status_code == 200
        await town.gateway.recorder.wait_for(before + 1)
    grant = next(iter(gateway.current.grants.values()))
    spent = sum(record.cost for record in town.gateway.recorder.records)
    assert spent > 0
    assert gateway.budgets.left(grant) == pytest.approx(1 - spent)


async def test_failed_and_lost_requests_give_their_places_back(limited: Any) -> None:
    town = await limited(concurrent_requests=1)
    gateway = town.gateway.app.state.gateway
    assert (await ask(town, model="nobody")).status_code == 404
    body = {**BODY, "stream": True, "messages": [{"role": "user", "content": "math sleep=5"}]}
    async with town.gateway.http.stream("POST", "/v1/chat/completions", json=body, headers=KEY) as reply:
        async for _ in reply.aiter_bytes():
            break
    await until(lambda: gateway.limits.accounts.running == 0)
    assert (await ask(town)).status_code == 200


async def test_near_the_end_of_its_budget_a_key_gets_the_cheapest(limited: Any, tmp_path: Path) -> None:
    database = str(tmp_path / "spent.db")
    town = await limited({"downgrade_at": 0.5, "database": database}, daily_budget=1)
    gateway = town.gateway.app.state.gateway
    assert (await ask(town)).headers["x-pointsman-expert"] == "math"
    gateway.budgets.note("a", 0.6)
    reply = await ask(town)
    prices = {name: expert.price.output for name, expert in gateway.current.catalog.experts.items() if expert.price}
    assert prices[reply.headers["x-pointsman-expert"]] == min(prices.values())


async def test_expert_at_its_own_limit_leaves_further_prompts_to_the_generalist(start_town: Any) -> None:
    town = await start_town(quotas={"experts": {"math": {"requests_per_minute": 2}}})
    answers = [await town.gateway.chat("math") for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200] * 4
    chosen = [(a.headers["x-pointsman-expert"], a.headers["x-pointsman-reason"]) for a in answers]
    assert chosen == [("math", "confident")] * 2 + [("generalist", "saturated")] * 2
    named = await town.gateway.chat("math", model="math")
    assert (named.status_code, named.json()["error"]["code"]) == (429, "rate_limit_exceeded")


async def test_prompt_is_not_read_for_an_estimate_that_nothing_needs(start_town: Any, monkeypatch: Any) -> None:
    read = []

    def noted(request: Any) -> Any:
        read.append(request.model)
        return features_of(request)

    monkeypatch.setattr("gateway.pipeline.features_of", noted)
    town = await start_town(quotas={"experts": {"math": {"tokens_per_minute": 1_000_000}}})
    for model in ("coding", "math"):
        assert (await town.gateway.chat("hello", model=model)).status_code == 200
    assert read == ["math"]
