"""Prompts tried out through the admin API: the decision is the data plane's own, and what is sent is recorded."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest
import yaml

from gateway.admin.playground import KEY, messages_of
from gateway.errors import InvalidRequest
from tests.fixtures_admin import Admin, StartAdmin, code_of
from tests.harness import FaultyScorer, FittedScorer
from tests.waiting import until

pytestmark = pytest.mark.slow


def body(text: str, **fields: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}], **fields}


async def tried(admin: Admin, text: str, **fields: Any) -> Any:
    answer = await admin.post("/playground", body(text, **fields))
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_trial_is_what_the_data_plane_decides_and_sends_nothing(admin: Admin) -> None:
    found = await tried(admin, "solve this math sure=0.9")
    real = (
        await admin.town.gateway.http.post("/v1/route", json={"model": "auto", **body("solve this math sure=0.9")})
    ).json()
    live = found["decisions"]["live"]
    for name in ("expert", "reason", "domain", "confidence", "scores", "policies", "fallbacks"):
        assert live[name] == real[name]
    assert list(found["decisions"]) == ["live"]
    assert admin.town.gateway.recorder.records == []
    assert all(not server.prompts for server in admin.town.servers.values())


async def test_word_that_decided_comes_first(admin: Admin) -> None:
    found = await tried(admin, "please solve this math for me")
    assert found["words"][0]["word"] == "math"
    assert found["words"][0]["influence"] > 1
    assert all(abs(word["influence"]) < 1e-3 for word in found["words"][1:])
    start, end = found["words"][0]["spans"][0]
    assert found["text"][start:end] == "math"
    assert (await tried(admin, "please solve this math", words=False))["words"] == []


async def test_other_thresholds_and_the_canary_are_decided_beside_the_live_ones(start_admin: StartAdmin) -> None:
    canary = {"share": 0.01, "policy": {"name": "fixed", "expert": "coding"}}
    admin = await start_admin(canary=canary)
    found = await tried(admin, "math sure=0.7", minimum_confidence=0.9)
    assert {name: one["expert"] for name, one in found["decisions"].items()} == {
        "live": "math",
        "canary": "coding",
        "tried": "generalist",
    }
    assert found["decisions"]["tried"]["reason"] == "low_confidence"
    assert found["decisions"]["tried"]["threshold"] == 0.9
    assert found["decisions"]["live"]["threshold"] < 0.7


async def test_draft_is_decided_with_and_not_applied(admin: Admin) -> None:
    text = (await admin.json("/config/file"))["yaml"]
    draft = yaml.safe_load(text)
    draft["router"] = {**draft.get("router", {}), "minimum_confidence": 0.9}
    draft["experts"]["health"] = {
        **draft["experts"]["math"],
        "domains": ["health"],
        "upstreams": ["http://127.0.0.1:9"],
    }
    found = await tried(admin, "math sure=0.7", draft=orjson.dumps(draft).decode())
    assert {name: one["expert"] for name, one in found["decisions"].items()} == {"live": "math", "draft": "generalist"}
    found = await tried(admin, "my health sure=0.95", draft=orjson.dumps(draft).decode())
    assert {name: one["expert"] for name, one in found["decisions"].items()} == {
        "live": "generalist",
        "draft": "health",
    }
    assert "health" not in admin.gateway.catalog.experts
    wrong = await admin.post("/playground", body("x", draft="experts: {math: 5}"))
    assert (wrong.status_code, code_of(wrong)) == (422, "config_invalid")


async def test_thresholds_to_try_replace_those_of_the_artifact(start_admin: StartAdmin) -> None:
    admin = await start_admin(scorer=FittedScorer())
    found = await tried(admin, "math sure=0.7", minimum_confidence=0.6)
    assert found["decisions"]["live"]["reason"] == "low_confidence"
    assert found["decisions"]["tried"]["expert"] == "math"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "king", "content": "x"}]}, "messages[0].role"),
        (body("x", policy="no such"), None),
        (body("x", minimum_confidence=1.5), "minimum_confidence"),
        ({"messages": "text"}, "messages"),
        (body("x", other=1), "other"),
    ],
)
async def test_wrong_trials_are_refused(admin: Admin, fields: dict[str, Any], param: str | None) -> None:
    answer = await admin.post("/playground", fields)
    assert answer.status_code == 400, answer.text
    if param is not None:
        assert answer.json()["error"]["param"] == param


async def test_classifier_that_fails_leaves_the_decision_and_no_words(start_admin: StartAdmin) -> None:
    admin = await start_admin(scorer=FaultyScorer("raises"))
    found = await tried(admin, "math")
    assert found["decisions"]["live"]["reason"] == "scorer_error"
    assert found["words"] is None


async def test_trial_leaves_callers_prompts_their_turn(admin: Admin) -> None:
    long = " ".join(f"word{n}" for n in range(300)) + " math"
    trial = asyncio.create_task(tried(admin, long))
    answers = await asyncio.gather(*(admin.town.gateway.chat("coding") for _ in range(20)))
    assert all(answer.status_code == 200 for answer in answers)
    assert (await trial)["words"]
    assert {record.reason for record in admin.town.gateway.recorder.records} <= {"confident"}


async def test_sent_prompt_is_streamed_and_recorded_under_its_own_key(admin: Admin) -> None:
    answers = await asyncio.gather(
        *(admin.post("/playground/send", body("hello there", expert=name)) for name in ("math", "generalist"))
    )
    for answer in answers:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.text.rstrip().endswith("data: [DONE]")
    await until(lambda: len(admin.town.gateway.recorder.records) == 2)
    records = admin.town.gateway.recorder.records
    assert {(record.chosen, record.key, record.reason) for record in records} == {
        ("math", KEY, "pinned"),
        ("generalist", KEY, "pinned"),
    }
    assert all(record.cost is not None for record in records)


async def test_wrong_and_too_many_sends_are_refused(admin: Admin) -> None:
    unknown = await admin.post("/playground/send", body("x", expert="nobody"))
    assert (unknown.status_code, unknown.json()["error"]["param"]) == (400, "expert")
    long = await admin.post("/playground/send", body("x", expert="math", max_tokens=10**9))
    assert long.status_code == 400
    answers = await asyncio.gather(*(admin.post("/playground/send", body("x", expert="math")) for _ in range(64)))
    assert {answer.status_code for answer in answers} <= {200, 429, 503}
    assert 429 in {answer.status_code for answer in answers}


async def test_expert_that_is_down_is_told(admin: Admin) -> None:
    admin.town.servers["math"].fault("status;code=500", count=None)
    answer = await admin.post("/playground/send", body("x", expert="math"))
    assert answer.status_code >= 500
    assert code_of(answer)


def test_form_becomes_messages() -> None:
    assert messages_of("hi") == [{"role": "user", "content": "hi"}]
    history = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    for conversation in (orjson.dumps(history).decode(), orjson.dumps({"messages": history, "model": "x"}).decode()):
        assert messages_of("c", "be kind", conversation) == [
            {"role": "system", "content": "be kind"},
            *history,
            {"role": "user", "content": "c"},
        ]
    assert messages_of("", "", orjson.dumps(history).decode()) == history
    for prompt, system, conversation in (("", "", ""), (" ", "be kind", ""), ("x", "", "{"), ("x", "", '"text"')):
        with pytest.raises(InvalidRequest):
            messages_of(prompt, system, conversation)
