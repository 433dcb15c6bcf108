"""Who is asked, and for which reason: through the front door, with a scorer whose answers are known."""

import re
from typing import Any

import pytest

from gateway.app import create_app
from gateway.thresholds import UnknownDomain
from gateway.types import Reason
from router import Abstention
from tests.conftest import Town, settings_for
from tests.harness import FaultyScorer, FittedScorer, KeywordScorer

IMAGE = {"type": "image_url", "image_url": {"url": "http://127.0.0.1:9/never-fetched.png"}}


async def decided(town: Town, text: str = "math", model: str = "auto", **fields: Any) -> tuple[str, str]:
    """Return expert and reason, from `/v1/route` and from the answer, which must agree."""
    body = {"model": model, "messages": [{"role": "user", "content": text}], **fields}
    explained = await town.gateway.http.post("/v1/route", json=body)
    assert explained.status_code == 200, explained.text
    answer = await town.gateway.http.post("/v1/chat/completions", json=body)
    shown = (answer.headers["x-pointsman-expert"], answer.headers["x-pointsman-reason"])
    assert (explained.json()["expert"], explained.json()["reason"]) == shown
    return shown


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("math", ("math", "confident")),
        ("coding", ("coding", "confident")),
        ("anything", ("generalist", "confident")),
        ("health", ("generalist", "uncovered_domain")),
        ("math sure=0.56", ("math", "confident")),
        ("math sure=0.54", ("generalist", "low_confidence")),
        ("", ("generalist", "no_text")),
    ],
)
async def test_auto_takes_the_best_domains_expert_when_sure(town: Town, text: str, expected: Any) -> None:
    assert await decided(town, text) == expected


@pytest.mark.row("F7")
async def test_threshold_itself_is_enough(start_town: Any) -> None:
    town = await start_town(router={"minimum_confidence": 0.5})
    assert await decided(town, "math sure=0.5") == ("math", "confident")


@pytest.mark.row("F7")
async def test_small_margin_abstains(start_town: Any) -> None:
    town = await start_town(router={"minimum_confidence": 0.3, "minimum_margin": 0.5})
    assert await decided(town, "math sure=0.5") == ("generalist", "small_margin")


@pytest.mark.parametrize(
    ("router", "text", "expected"),
    [
        ({}, "math sure=0.8", ("math", "confident")),
        ({}, "math sure=0.79", ("generalist", "low_confidence")),
        ({}, "coding sure=0.41", ("coding", "confident")),
        ({}, "general sure=0.59", ("generalist", "low_confidence")),
        ({}, "coding sure=0.41 strange=0.9", ("coding", "confident")),
        ({}, "coding strange=0.91", ("generalist", "out_of_domain")),
        ({}, "coding moved=0.51", ("generalist", "disagreement")),
        ({"minimum_confidence": 0.5}, "math sure=0.6", ("math", "confident")),
        ({"minimum_confidence": 0.5}, "coding sure=0.45", ("generalist", "low_confidence")),
        ({"thresholds": {"math": 0.3}}, "math sure=0.45", ("math", "confident")),
        ({"thresholds": {"math": 0.3}}, "general sure=0.59", ("generalist", "low_confidence")),
        ({"minimum_confidence": 0.9, "thresholds": {"math": 0.3}}, "math sure=0.45", ("math", "confident")),
        ({"minimum_margin": 0.3}, "coding sure=0.41", ("generalist", "small_margin")),
        ({"minimum_margin": 0}, "coding sure=0.4", ("coding", "confident")),
        ({"maximum_out_of_domain": 1}, "coding strange=1", ("coding", "confident")),
        ({"maximum_out_of_domain": 0.5}, "coding strange=0.6", ("generalist", "out_of_domain")),
        ({"maximum_disagreement": 1}, "coding moved=1", ("coding", "confident")),
        ({"maximum_disagreement": 0}, "coding moved=0.01", ("generalist", "disagreement")),
    ],
)
async def test_settings_win_over_the_scorers_thresholds(start_town: Any, router: Any, text: str, expected: Any) -> None:
    town = await start_town(scorer=FittedScorer(), router=router)
    assert await decided(town, text) == expected


def test_threshold_for_an_unknown_domain_is_said_before_anything_is_opened() -> None:
    experts = {"generalist": {"model": "m", "upstreams": ["http://127.0.0.1:9"]}}
    settings = settings_for(experts, router={"thresholds": {"maths": 0.7}})
    with pytest.raises(
        UnknownDomain, match=r"router\.thresholds\.maths: .* did you mean 'math'\? it has: math, coding"
    ):
        create_app(settings, scorer=KeywordScorer())


@pytest.mark.parametrize("abstention", list(Abstention))
def test_every_abstention_is_a_reason(abstention: Abstention) -> None:
    assert Reason.of(abstention) == abstention.value


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("math", ("math", "pinned")),
        ("sim/math", ("math", "pinned")),
        ("generalist", ("generalist", "pinned")),
        ("auto/coding", ("coding", "requested_domain")),
        ("auto/general", ("generalist", "requested_domain")),
        ("auto:modem", ("math", "confident")),
    ],
)
async def test_model_field_says_what_is_wanted(town: Town, model: str, expected: Any) -> None:
    assert await decided(town, "math", model=model) == expected


@pytest.mark.parametrize("model", ["gpt-9", "Math", "auto/law", "auto/", "auto:", "AUTO", "x" * 200])
async def test_unknown_model_is_404(town: Town, model: str) -> None:
    reply = await town.gateway.chat("math", model=model)
    assert (reply.status_code, reply.json()["error"]["code"]) == (404, "model_not_found")
    assert "x-pointsman-expert" not in reply.headers


async def test_unknown_policy_is_400_that_lists_them(town: Town) -> None:
    for reply in (
        await town.gateway.chat("math", model="auto:nonsense"),
        await town.gateway.http.post(
            "/v1/chat/completions",
            json={"model": "auto", "messages": [{"role": "user", "content": "x"}]},
            headers={"x-pointsman-policy": "nonsense"},
        ),
    ):
        assert (reply.status_code, reply.json()["error"]["code"]) == (400, "unknown_policy")
        assert "modem" in reply.json()["error"]["message"]


@pytest.mark.parametrize(
    ("fault", "reason"),
    [("raises", "scorer_error"), ("nan", "scorer_error"), ("bare array", "scorer_error"), ("slow", "scorer_timeout")],
)
@pytest.mark.row("F1", "F2", "F3")
async def test_scorer_fails_generalist_answers(start_town: Any, fault: str, reason: str) -> None:
    scorer = FaultyScorer(fault)
    town = await start_town(scorer=scorer, router={"deadline_s": 0.1})
    reply = await town.gateway.chat("math")
    assert (reply.status_code, reply.headers["x-pointsman-expert"]) == (200, "generalist")
    assert reply.headers["x-pointsman-reason"] == reason


async def test_capability_missing_at_the_specialist_generalist_answers(start_town: Any) -> None:
    town = await start_town(changes={"math": {"capabilities": ["logprobs"]}})
    tools = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}]
    assert await decided(town, "math", tools=tools) == ("generalist", "capability")
    assert await decided(town, "math", response_format={"type": "json_object"}) == ("generalist", "capability")
    assert await decided(town, "math", logprobs=True) == ("math", "confident")
    pinned = await town.gateway.chat("math", model="math", tools=tools)
    assert (pinned.status_code, pinned.json()["error"]["param"]) == (400, "tools")


async def test_images_go_to_who_can_see_them_or_nowhere(start_town: Any) -> None:
    content: Any = [{"type": "text", "text": "math"}, IMAGE]
    body = {"model": "auto", "messages": [{"role": "user", "content": content}]}
    town = await start_town()
    refused = await town.gateway.http.post("/v1/chat/completions", json=body)
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "messages")
    town = await start_town(changes={"coding": {"capabilities": ["vision"]}})
    routed = (await town.gateway.http.post("/v1/route", json=body)).json()
    assert (routed["expert"], routed["reason"], routed["fallbacks"]) == ("coding", "capability", [])


async def test_route_explains_without_sending_or_repeating_the_prompt(town: Town) -> None:
    body = {"model": "auto", "messages": [{"role": "user", "content": "math canary-prompt"}]}
    reply = await town.gateway.http.post("/v1/route", json=body)
    explained = reply.json()
    assert explained["scores"]["math"] == pytest.approx(0.97)
    assert explained["margin"] == pytest.approx(0.96)
    assert (explained["domain"], explained["fallbacks"]) == ("math", ["generalist", "coding"])
    assert (explained["threshold"], explained["tier"]) == (0.55, "keywords")
    assert explained["limits"] == {"margin": 0, "out_of_domain": 1, "disagreement": 1}
    assert not {"words", "topics", "text"} & set(explained)
    assert "canary-prompt" not in reply.text
    assert not town.servers["math"].prompts


async def test_figures_behind_the_decision_are_shown_recorded_and_counted(start_town: Any) -> None:
    town = await start_town(scorer=FittedScorer())
    text = "math sure=0.85 strange=0.25 moved=0.75"
    body = {"model": "auto", "messages": [{"role": "user", "content": text}]}
    explained = (await town.gateway.http.post("/v1/route", json=body)).json()
    await town.gateway.chat(text)
    (record,) = await town.gateway.recorder.wait_for(1)
    assert record.reason == explained["reason"] == "disagreement"
    assert record.threshold == explained["threshold"] == 0.8
    assert record.tier == explained["tier"] == "keywords"
    assert record.out_of_domain == explained["out_of_domain"] == 0.25
    assert record.disagreement == explained["disagreement"] == 0.75
    assert explained["limits"] == {"margin": 0.1, "out_of_domain": 0.9, "disagreement": 0.5}
    assert (await town.gateway.metric("pointsman_out_of_domain_sum")) == {"pointsman_out_of_domain_sum": 0.25}
    assert (await town.gateway.metric("pointsman_disagreement_sum")) == {"pointsman_disagreement_sum": 0.75}
    assert (await town.gateway.metric("pointsman_scored_total")) == {'pointsman_scored_total{tier="keywords"}': 1}
    assert (await town.gateway.metric("pointsman_threshold"))['pointsman_threshold{domain="coding"}'] == 0.4


async def test_unscored_request_has_no_figures(town: Town) -> None:
    await town.gateway.chat("")
    (record,) = await town.gateway.recorder.wait_for(1)
    assert (record.threshold, record.out_of_domain, record.disagreement, record.tier) == (None, None, None, None)
    assert await town.gateway.metric("pointsman_scored_total") == {}


async def test_models_lists_names_aliases_and_lengths(town: Town) -> None:
    cards = {card["id"]: card for card in (await town.gateway.http.get("/v1/models")).json()["data"]}
    assert list(cards) == [
        "auto", "generalist", "math", "coding", "auto/general", "auto/other", "auto/math", "auto/coding"
    ]  # fmt: skip
    assert cards["math"]["max_model_len"] == cards["auto/math"]["max_model_len"] == 8192
    assert cards["math"]["root"] == "sim/math"
    one = await town.gateway.http.get("/v1/models/sim/math")
    assert one.json() == cards["math"]
    missing = await town.gateway.http.get("/v1/models/nope")
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "model_not_found")


async def test_documentation_page_needs_no_other_host(town: Town) -> None:
    page = await town.gateway.http.get("/docs")
    assert page.status_code == 200
    addresses = re.findall(r"""(?:src|href)=["']([^"']+)""", page.text)
    assert len(addresses) >= 2
    assert all(address.startswith((town.gateway.url, "/")) for address in addresses), addresses
    for address in addresses:
        assert (await town.gateway.http.get(address)).status_code == 200
    paths = (await town.gateway.http.get("/openapi.json")).json()["paths"]
    assert {"/v1/chat/completions", "/v1/embeddings", "/v1/route", "/v1/models", "/health/ready"} <= set(paths)
