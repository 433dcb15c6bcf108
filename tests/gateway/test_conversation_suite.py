"""Conversations through the running gateway: who answers each turn, and why. Clients resend their history."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.conftest import Town
from tests.harness import LABELS, KeywordScorer, RunningGateway
from tests.waiting import until

REMINDER = "<system-reminder>coding coding coding: the file main.py was changed.</system-reminder>"
FUNCTION = {"name": "lookup", "parameters": {"type": "object", "properties": {"key": {"type": "string"}}}}
OTHER_WORDS = "coding coding health coding " * 30


class FirstWordScorer(KeywordScorer):
    """The domain's word that comes first decides; a text without any is nobody's."""

    def _row(self, text: str) -> list[float]:
        said = [word.strip(".,:?!") for word in text.split()]
        first = next((word for word in said if word in LABELS), None)
        return [0.25] * len(LABELS) if first is None else [0.97 if label == first else 0.01 for label in LABELS]


@pytest.fixture
async def talk_town(start_town: Any) -> Town:
    town: Town = await start_town(scorer=FirstWordScorer())
    return town


@dataclass
class Talk:
    """A client that resends its history, as all do."""

    gateway: RunningGateway
    headers: dict[str, str] = field(default_factory=dict)
    messages: list[dict[str, Any]] = field(default_factory=list)
    fields: dict[str, Any] = field(default_factory=lambda: {"sim_answer": "Done."})

    async def say(self, content: Any, **fields: Any) -> tuple[str, str]:
        """Say something; returns who answered and why."""
        return await self.send([{"role": "user", "content": content}], **fields)

    async def send(self, messages: list[dict[str, Any]], **fields: Any) -> tuple[str, str]:
        self.messages += messages
        body = {"model": "auto", "messages": self.messages, **self.fields, **fields}
        reply = await self.gateway.http.post("/v1/chat/completions", json=body, headers=self.headers)
        assert reply.status_code == 200, reply.text
        self.messages.append(reply.json()["choices"][0]["message"])
        return shown(reply)


def shown(reply: Any) -> tuple[str, str]:
    return reply.headers["x-pointsman-expert"], reply.headers["x-pointsman-reason"]


@pytest.mark.row("F8")
async def test_turns_that_mean_nothing_alone_stay(talk_town: Town) -> None:
    talk = Talk(talk_town.gateway)
    assert await talk.say("a math question") == ("math", "confident")
    # The classifier sees the turn before ...
    assert await talk.say("and the second one?") == ("math", "confident")
    # ... until the domain's word is too far back.
    for text in ("go on", "shorter", "why?", "ok"):
        expert, reason = await talk.say(text)
        assert expert == "math"
    assert reason == "session"
    records = await talk_town.gateway.recorder.wait_for(6)
    assert [record.reason for record in records[-2:]] == ["session", "session"]


@pytest.mark.row("F8")
async def test_new_task_is_followed_on_its_turn_and_back_again(talk_town: Town) -> None:
    talk = Talk(talk_town.gateway)
    for text, expert in [
        *(("a math question", "math"), ("and now?", "math"), ("coding: a parser", "coding"), ("faster", "coding")),
        *(("general knowledge", "generalist"), ("hm", "generalist"), ("math again", "math"), ("and then?", "math")),
    ]:
        assert (await talk.say(text))[0] == expert, text


async def test_unclear_beginning_goes_to_the_specialist_once_it_is_clear(talk_town: Town) -> None:
    talk = Talk(talk_town.gateway)
    assert await talk.say("hello there") == ("generalist", "low_confidence")
    assert await talk.say("math, please") == ("math", "confident")


@pytest.mark.parametrize("names", [["lookup"], ["lookup", "lookup_other"]], ids=["one call", "parallel calls"])
@pytest.mark.row("F8")
async def test_chat_tool_loop_is_locked(talk_town: Town, names: list[str]) -> None:
    tools = [{"type": "function", "function": {**FUNCTION, "name": name}} for name in names]
    talk = Talk(talk_town.gateway, fields={"tools": tools})
    talk_town.servers["math"].fault("status;code=503", count=None)
    # The generalist stood in, and its call is open: math must not read the result, though it is up again.
    assert (await talk.say(f"math: use {' and '.join(names)}"))[0] == "generalist"
    talk_town.servers["math"].clear_faults()
    for _ in range(2):
        calls = talk.messages[-1].get("tool_calls") or [{"id": "again"}]
        results = [{"role": "tool", "tool_call_id": call["id"], "content": OTHER_WORDS} for call in calls]
        assert await talk.send(results) == ("generalist", "tool_lock")
        talk.messages[-1] = {"role": "assistant", "content": None, "tool_calls": talk.messages[1]["tool_calls"]}
    results = [{"role": "tool", "tool_call_id": "x", "content": "1"}, {"role": "user", "content": REMINDER}]
    assert await talk.send(results) == ("generalist", "tool_lock")
    assert await talk.say("math: another one") == ("math", "confident")


@pytest.mark.parametrize("named", ["coding", "auto/coding"])
async def test_tool_loop_of_a_named_expert_is_locked_on_a_later_routed_turn(talk_town: Town, named: str) -> None:
    talk = Talk(talk_town.gateway, fields={"tools": [{"type": "function", "function": FUNCTION}]})
    assert (await talk.say("math: use lookup", model=named))[0] == "coding"
    (call,) = talk.messages[-1]["tool_calls"]
    result = {"role": "tool", "tool_call_id": call["id"], "content": "math math"}
    assert await talk.send([result]) == ("coding", "tool_lock")
    assert await talk.say("math: another one") == ("math", "confident")
    records = await talk_town.gateway.recorder.wait_for(3)
    assert [record.session for record in records] == [None, "coding", "coding"]


async def test_conversation_begun_with_a_named_domain_stays_until_the_task_changes(talk_town: Town) -> None:
    talk = Talk(talk_town.gateway)
    assert await talk.say("whatever", model="auto/math") == ("math", "requested_domain")
    assert await talk.say("x" * 300) == ("math", "session")
    assert await talk.say("coding: a parser") == ("coding", "confident")


async def test_named_expert_without_tools_begins_no_session(talk_town: Town) -> None:
    talk = Talk(talk_town.gateway)
    assert await talk.say("whatever", model="math") == ("math", "pinned")
    assert await talk.say("x" * 300) == ("generalist", "low_confidence")


async def test_naming_an_expert_opens_a_locked_loop(talk_town: Town) -> None:
    talk = Talk(talk_town.gateway, fields={"tools": [{"type": "function", "function": FUNCTION}]})
    assert (await talk.say("math: use lookup"))[0] == "math"
    result = {"role": "tool", "tool_call_id": "x", "content": "1"}
    assert await talk.send([result], model="coding") == ("coding", "pinned")
    talk.messages[-1] = {"role": "assistant", "content": None, "tool_calls": talk.messages[1]["tool_calls"]}
    assert await talk.send([result]) == ("coding", "tool_lock")


async def test_named_expert_with_sessions_turned_off_is_not_remembered(start_town: Any) -> None:
    town = await start_town(scorer=FirstWordScorer(), sessions={"enabled": False})
    talk = Talk(town.gateway)
    for model in ("math", "auto/math"):
        await talk.say("whatever", model=model, tools=[{"type": "function", "function": FUNCTION}])
    assert len(town.gateway.app.state.gateway.sessions) == 0
    assert await talk.say("x" * 300) == ("generalist", "low_confidence")


async def test_messages_tool_loop_is_locked(talk_town: Town) -> None:
    http, tool = talk_town.gateway.http, {"name": "lookup", "input_schema": FUNCTION["parameters"]}
    body: dict[str, Any] = {"model": "auto", "max_tokens": 99, "tools": [tool]}
    messages: list[dict[str, Any]] = [{"role": "user", "content": "math: use lookup"}]
    talk_town.servers["math"].fault("status;code=503", count=None)
    first = await http.post("/v1/messages", json={**body, "messages": messages})
    talk_town.servers["math"].clear_faults()
    assert shown(first)[0] == "generalist"
    calls = [part for part in first.json()["content"] if part["type"] == "tool_use"]
    assert calls
    results: list[dict[str, Any]] = [
        {"type": "tool_result", "tool_use_id": call["id"], "content": [{"type": "text", "text": OTHER_WORDS}]}
        for call in calls
    ]
    messages += [{"role": "assistant", "content": first.json()["content"]}, {"role": "user", "content": results}]
    locked = await http.post("/v1/messages", json={**body, "messages": messages})
    assert shown(locked) == ("generalist", "tool_lock")
    results.append({"type": "text", "text": REMINDER})
    assert shown(await http.post("/v1/messages", json={**body, "messages": messages})) == ("generalist", "tool_lock")
    results.append({"type": "text", "text": "math: leave it, do that"})
    assert shown(await http.post("/v1/messages", json={**body, "messages": messages})) == ("math", "confident")


async def test_responses_tool_loop_is_locked(talk_town: Town) -> None:
    http, tool = talk_town.gateway.http, {"type": "function", **FUNCTION}
    talk_town.servers["math"].fault("status;code=503", count=None)
    body = {"model": "auto", "tools": [tool]}
    first = await http.post("/v1/responses", json={**body, "input": "math: use lookup"})
    talk_town.servers["math"].clear_faults()
    assert shown(first)[0] == "generalist", first.text
    calls = [item for item in first.json()["output"] if item["type"] == "function_call"]
    assert calls
    outputs = [{"type": "function_call_output", "call_id": call["call_id"], "output": OTHER_WORDS} for call in calls]
    items = [{"role": "user", "content": "math: use lookup"}, *first.json()["output"], *outputs]
    assert shown(await http.post("/v1/responses", json={**body, "input": items})) == ("generalist", "tool_lock")
    items.append({"role": "user", "content": "math: and now?"})
    assert shown(await http.post("/v1/responses", json={**body, "input": items})) == ("math", "confident")


async def test_harness_noise_does_not_split_the_conversation(talk_town: Town) -> None:
    talk = Talk(talk_town.gateway)
    talk.messages.append({"role": "system", "content": "You are an agent. It is 12:04:31, coding time."})
    await talk.say("a math question")
    talk.messages[0]["content"] = "You are an agent. It is 12:05:02, coding time."
    for number in range(4):
        asked: list[Any] = [{"type": "text", "text": "go on"}, {"type": "text", "text": REMINDER}]
        assert (await talk.say(asked))[0] == "math"
        # The reminder is gone in the next request, the clock has moved, parts are text again.
        talk.messages[0]["content"] = f"You are an agent. It is 12:05:0{number}."
        talk.messages[-2]["content"] = "go on"
    assert (await talk.say("why?"))[1] == "session"


async def test_edited_turn_goes_on_from_where_it_branches(talk_town: Town) -> None:
    talk = Talk(talk_town.gateway)
    await talk.say("a math question")
    await talk.say("coding: a parser")
    await talk.say("x" * 300)
    assert (await talk.say("x" * 301)) == ("coding", "session")
    branch = Talk(talk_town.gateway, messages=talk.messages[:2])
    assert await branch.say("x" * 300) == ("math", "session")
    assert await talk.say("x" * 302) == ("coding", "session")


async def test_two_keys_with_the_same_words_do_not_share(start_town: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_KEYS", "first,second")
    town = await start_town(scorer=FirstWordScorer(), server={"api_keys_env": "TEST_KEYS"})
    first = Talk(town.gateway, {"authorization": "Bearer first"})
    await first.say("a math question")
    second = Talk(town.gateway, {"authorization": "Bearer second"}, list(first.messages))
    unclear = "x" * 300
    assert await second.say(unclear) == ("generalist", "low_confidence")
    assert await first.say(unclear) == ("math", "session")


async def test_idle_conversation_is_decided_anew(talk_town: Town) -> None:
    sessions, now = talk_town.gateway.app.state.gateway.sessions, [0.0]
    sessions._clock = lambda: now[0]
    talk = Talk(talk_town.gateway)
    await talk.say("a math question")
    now[0] = 1_800
    assert await talk.say("x" * 300) == ("math", "session")
    now[0] = 3_601
    assert await talk.say("x" * 300) == ("generalist", "low_confidence")


async def test_after_a_failover_the_conversation_is_with_whoever_answered(talk_town: Town) -> None:
    talk = Talk(talk_town.gateway)
    assert await talk.say("a math question") == ("math", "confident")
    talk_town.servers["math"].fault("status;code=503", count=None)
    assert (await talk.say("x" * 300))[0] == "generalist"
    talk_town.servers["math"].clear_faults()
    assert (await talk.say("x" * 301))[0] == "generalist"
    assert await talk.say("math: a new one") == ("math", "confident")


async def test_expert_that_is_down_loses_its_conversation(talk_town: Town) -> None:
    talk = Talk(talk_town.gateway)
    await talk.say("a math question")
    await talk_town.servers["math"].stop()
    generation = talk_town.gateway.app.state.gateway.current
    await until(lambda: not generation.fleet.usable(generation.catalog.experts["math"]))
    assert await talk.say("x" * 300) == ("generalist", "low_confidence")
    assert (await talk.say("coding: a parser"))[0] == "coding"


async def test_session_id_holds_where_no_history_is_sent(talk_town: Town) -> None:
    headers = {"x-session-id": "agent-7"}
    await Talk(talk_town.gateway, headers).say("a math question")
    assert await Talk(talk_town.gateway, headers).say("x" * 300) == ("math", "session")
    assert await Talk(talk_town.gateway, {"x-session-id": "agent-8"}).say("x" * 300) == ("generalist", "low_confidence")
    refused = await talk_town.gateway.http.post(
        "/v1/chat/completions", json={"model": "auto", "messages": []}, headers={"x-session-id": "a b"}
    )
    assert refused.status_code == 400


async def test_refused_turn_is_not_remembered(talk_town: Town) -> None:
    talk = Talk(talk_town.gateway)
    await talk.say("a math question")
    talk_town.servers["coding"].fault("status;code=400", count=1)
    body = {"model": "auto", "messages": [*talk.messages, {"role": "user", "content": "coding: a parser"}]}
    assert (await talk_town.gateway.http.post("/v1/chat/completions", json=body)).status_code == 400
    talk.messages += [{"role": "user", "content": "coding: a parser"}, {"role": "assistant", "content": "(failed)"}]
    assert await talk.say("x" * 300) == ("math", "session")


async def test_streamed_turn_is_remembered(talk_town: Town) -> None:
    messages = [{"role": "user", "content": "a math question"}]
    body = {"model": "auto", "messages": messages, "stream": True}
    assert (await talk_town.gateway.http.post("/v1/chat/completions", json=body)).status_code == 200
    talk = Talk(talk_town.gateway, messages=[*messages, {"role": "assistant", "content": "Done."}])
    assert await talk.say("x" * 300) == ("math", "session")


async def test_explained_decision_is_the_conversations(talk_town: Town) -> None:
    talk = Talk(talk_town.gateway)
    await talk.say("a math question")
    body = {"model": "auto", "messages": [*talk.messages, {"role": "user", "content": "x" * 300}]}
    explained = (await talk_town.gateway.http.post("/v1/route", json=body)).json()
    assert (explained["expert"], explained["reason"]) == ("math", "session")
    assert explained["policies"]["modem"] == {"expert": "generalist", "reason": "low_confidence"}
    assert await talk.say("x" * 300) == ("math", "session")


async def test_full_table_forgets_the_least_recently_used(start_town: Any) -> None:
    town = await start_town(scorer=FirstWordScorer(), sessions={"capacity": 2})
    talks = [Talk(town.gateway) for _ in range(3)]
    for number, talk in enumerate(talks):
        await talk.say(f"math question {number}")
    assert await talks[0].say("x" * 300) == ("generalist", "low_confidence")
    assert await talks[2].say("x" * 300) == ("math", "session")


@pytest.mark.row("F8")
async def test_sessions_turned_off_decide_every_turn_alone(start_town: Any) -> None:
    town = await start_town(scorer=FirstWordScorer(), sessions={"enabled": False})
    talk = Talk(town.gateway)
    await talk.say("a math question")
    assert await talk.say("x" * 300) == ("generalist", "low_confidence")


async def test_hundred_conversations_at_once_do_not_mix(talk_town: Town) -> None:
    experts = ("math", "coding", "generalist")

    async def converse(number: int) -> list[tuple[str, str]]:
        talk = Talk(talk_town.gateway)
        word = {"generalist": "general"}.get(experts[number % 3], experts[number % 3])
        first = await talk.say(f"{word} question {number}")
        return [first, *[await talk.say(f"{'x' * 300} {turn}") for turn in range(3)]]

    for number, turns in enumerate(await asyncio.gather(*map(converse, range(100)))):
        assert [expert for expert, _ in turns] == [experts[number % 3]] * 4
