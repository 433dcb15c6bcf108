"""The written conversations with real answers: the gateway as a program, the shipped classifier, real vLLM servers.

What was answered becomes the history of the next turn, whatever the tiny models said.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from .cases import CHAT
from .processes import VllmServer, gateway
from .wire import ask

pytestmark = pytest.mark.vllm

CONVERSATIONS = Path(__file__).parents[1] / "gateway" / "conversations.jsonl"
LEAST_RIGHT = 0.9
LEAST_STICKING = 0.92
SPOKEN = {"temperature": 0, "max_tokens": 12}


@dataclass(frozen=True, slots=True)
class Turn:
    """One answered turn; `before` is the expert that the turn before was written for."""

    name: str
    wanted: str
    before: str | None
    expert: str
    model: str


@pytest.fixture(scope="module")
def six_experts(vllm: dict[str, VllmServer], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A gateway with five specialists and a generalist on two servers."""
    lora, reasoner = vllm["lora"].url, vllm["reasoner"].url
    models = {"math": "tiny-lora", "law": "tiny-lora2", "health": "tiny-alias", "writing": "tiny", "coding": None}
    experts: dict[str, Any] = {
        name: {"model": model or "tiny-reasoner", "domains": [name], "upstreams": [lora if model else reasoner]}
        for name, model in models.items()
    }
    config = {"generalist": {"model": "tiny", "upstreams": [lora]}, "experts": experts}
    with gateway(tmp_path_factory.mktemp("conversations"), config) as url:
        yield url


@pytest.fixture(scope="module")
def turns(six_experts: str) -> list[Turn]:
    """Hold all conversations, four at a time."""
    written = [json.loads(line) for line in CONVERSATIONS.read_text(encoding="utf-8").splitlines()]
    with ThreadPoolExecutor(4) as pool:
        return [turn for held in pool.map(lambda talk: hold(six_experts, talk), written) for turn in held]


def hold(url: str, conversation: dict[str, Any]) -> list[Turn]:
    messages: list[dict[str, str]] = []
    held: list[Turn] = []
    for turn in conversation["turns"]:
        messages.append({"role": "user", "content": turn["user"]})
        reply = ask(url, CHAT, {"model": "auto", "messages": messages, **SPOKEN})
        assert reply.status == 200, reply.body
        answer = reply.json()
        before = held[-1].wanted if held else None
        expert = reply.headers["x-pointsman-expert"]
        held.append(Turn(conversation["name"], turn["expert"], before, expert, answer["model"]))
        messages.append({"role": "assistant", "content": answer["choices"][0]["message"]["content"] or ""})
    return held


def share_right(turns: list[Turn]) -> float:
    for turn in turns:
        if turn.expert != turn.wanted:
            print(f"{turn.name}: {turn.expert}, not {turn.wanted}")
    right = sum(turn.expert == turn.wanted for turn in turns)
    print(f"{right} of {len(turns)}")
    return right / len(turns)


def test_written_conversations_reach_the_right_expert(turns: list[Turn]) -> None:
    assert len(turns) > 200
    assert share_right(turns) >= LEAST_RIGHT


def test_written_conversations_stay_while_the_task_goes_on(turns: list[Turn]) -> None:
    assert share_right([turn for turn in turns if turn.before == turn.wanted]) >= LEAST_STICKING


def test_answers_come_from_the_experts_own_model(turns: list[Turn]) -> None:
    served = {"coding": "tiny-reasoner", "math": "tiny-lora", "law": "tiny-lora2"}
    models = {turn.expert: turn.model for turn in turns if turn.expert in served}
    assert models == served
