"""Written conversations, turn by turn, through the running gateway with the shipped classifier."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from router import load_scorer
from tests.conftest import StartGateway, quick_expert, settings_for
from tests.harness import RunningGateway

CONVERSATIONS = Path(__file__).with_name("conversations.jsonl")
LEAST_RIGHT = 0.9


def conversations() -> list[dict[str, Any]]:
    return [json.loads(line) for line in CONVERSATIONS.read_text(encoding="utf-8").splitlines()]


@pytest.fixture
async def six_experts(start_gateway: StartGateway, sim_server: Any) -> RunningGateway:
    """Five specialists and a generalist behind the shipped classifier."""
    names = ("generalist", "math", "coding", "health", "law", "writing")
    server = await sim_server(*(quick_expert(f"sim/{name}", name) for name in names))
    experts: dict[str, Any] = {name: {"model": f"sim/{name}", "upstreams": [server.url]} for name in names}
    for name in names[1:]:
        experts[name]["domains"] = [name]
    return await start_gateway(settings_for(experts), load_scorer("default"))


async def hold(gateway: RunningGateway, turns: Sequence[dict[str, str]]) -> list[str]:
    """Return who answered each turn; the history is the written one."""
    messages: list[dict[str, str]] = []
    answered = []
    for turn in turns:
        messages.append({"role": "user", "content": turn["user"]})
        body = {"model": "auto", "messages": messages, "sim_answer": turn["reply"]}
        reply = await gateway.http.post("/v1/chat/completions", json=body)
        assert reply.status_code == 200, reply.text
        answered.append(reply.headers["x-pointsman-expert"])
        messages.append({"role": "assistant", "content": turn["reply"]})
    return answered


@pytest.mark.slow
@pytest.mark.row("F8")
async def test_written_conversations_with_the_shipped_classifier(six_experts: RunningGateway) -> None:
    right: dict[str, list[bool]] = {"first": [], "goes on": [], "new task": []}
    for conversation in conversations():
        turns = conversation["turns"]
        answered = await hold(six_experts, turns)
        for number, (turn, expert) in enumerate(zip(turns, answered, strict=True)):
            new = number > 0 and turn["expert"] != turns[number - 1]["expert"]
            kind = "first" if number == 0 else "new task" if new else "goes on"
            right[kind].append(expert == turn["expert"])
            if not right[kind][-1]:
                print(f"{conversation['name']} turn {number + 1}: {expert}, not {turn['expert']}")
    every = [found for kind in right.values() for found in kind]
    print({kind: f"{sum(found)} of {len(found)}" for kind, found in right.items()}, f"{sum(every)} of {len(every)}")
    assert len(every) > 200
    assert sum(every) / len(every) >= LEAST_RIGHT
    assert sum(right["goes on"]) / len(right["goes on"]) >= 0.95


def test_written_conversations_are_many_and_of_many_kinds() -> None:
    written = conversations()
    assert len({conversation["name"] for conversation in written}) == len(written) >= 60
    assert len({conversation["language"] for conversation in written}) >= 10
    changing = [c for c in written if len({turn["expert"] for turn in c["turns"]}) > 1]
    assert len(changing) >= 20
