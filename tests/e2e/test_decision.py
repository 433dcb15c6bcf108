"""Names, routing and the headers that tell about it, in front of real servers."""

from __future__ import annotations

import re
from typing import Any

import pytest

from .cases import (
    CHAT,
    COMPLETIONS,
    EMBEDDINGS,
    MESSAGES,
    RESPONSES,
    Body,
    chat,
    completion,
    embedding,
    message,
    response,
)
from .processes import VllmServer
from .wire import Reply, ask

pytestmark = pytest.mark.vllm

MATHS = "Prove that the equation x^2 = 2 has no rational solution, then compute the integral of x^2 from 0 to 1."
HEADERS = ("expert", "domain", "confidence", "reason", "policy", "fallbacks", "overhead-ms")


def _decision(reply: Reply) -> dict[str, str]:
    prefix = "x-pointsman-"
    return {name.removeprefix(prefix): value for name, value in reply.headers.items() if name.startswith(prefix)}


def _asking(text: str, **fields: Any) -> Body:
    return chat(messages=[{"role": "user", "content": text}], max_tokens=8, **fields)


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
def test_auto_clear_prompt_goes_to_the_domains_expert(gateway_url: str, stream: bool) -> None:
    reply = ask(gateway_url, CHAT, _asking(MATHS, model="auto", stream=stream))
    decision = _decision(reply)
    assert (reply.status, decision["expert"], decision["domain"]) == (200, "math", "math"), decision
    assert decision["reason"] == "confident"
    assert 0.55 <= float(decision["confidence"]) <= 1
    assert decision["policy"] == "modem"
    assert decision["fallbacks"] == "0"
    assert 0 <= float(decision["overhead-ms"]) < 1000
    answers = reply.chunks() if stream else [reply.json()]
    assert {answer["model"] for answer in answers} == {"tiny-lora"}


def test_auto_no_text_goes_to_the_generalist(gateway_url: str) -> None:
    reply = ask(gateway_url, CHAT, _asking("", model="auto"))
    assert (reply.status, _decision(reply)["expert"], _decision(reply)["reason"]) == (200, "generalist", "no_text")


@pytest.mark.parametrize(
    ("model", "expert", "served"),
    [
        ("auto/math", "math", "tiny-lora"),
        ("auto/coding", "coding", "tiny-reasoner"),
        ("math", "math", "tiny-lora"),
        ("tiny-lora", "math", "tiny-lora"),
        ("law", "law", "tiny-lora2"),
        ("tiny-alias", "nickname", "tiny"),
        ("generalist", "generalist", "tiny"),
        ("tiny", "generalist", "tiny"),
    ],
)
def test_model_name_or_alias_reaches_its_expert(gateway_url: str, model: str, expert: str, served: str) -> None:
    reply = ask(gateway_url, CHAT, _asking("hello", model=model))
    reason = "requested_domain" if model.startswith("auto/") else "pinned"
    assert (_decision(reply)["expert"], _decision(reply)["reason"]) == (expert, reason)
    assert (reply.status, reply.json()["model"]) == (200, served)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (CHAT, chat()),
        (CHAT, chat(stream=True)),
        (COMPLETIONS, completion()),
        (COMPLETIONS, completion(stream=True)),
        (RESPONSES, response()),
        (RESPONSES, response(stream=True)),
        (MESSAGES, message()),
        (MESSAGES, message(stream=True)),
        (EMBEDDINGS, embedding("hello")),
    ],
)
def test_every_endpoint_carries_the_headers_on_streams_too(gateway_url: str, path: str, body: Body) -> None:
    reply = ask(gateway_url, path, body)
    decision = _decision(reply)
    assert (decision["expert"], decision["reason"]) == ("embed" if path == EMBEDDINGS else "generalist", "pinned")
    assert float(decision["overhead-ms"]) >= 0
    assert set(decision) <= set(HEADERS)
    assert re.fullmatch(r"[\x21-\x7e]{8,128}", reply.headers["x-request-id"])
    assert "server" not in reply.headers


def test_request_id_of_the_client_is_echoed_and_reaches_vllm(gateway_url: str) -> None:
    reply = ask(gateway_url, CHAT, chat(), headers={"x-request-id": "trace-0123456789"})
    assert reply.headers["x-request-id"] == "trace-0123456789"
    assert reply.json()["id"] == "chatcmpl-trace-0123456789"


def test_models_lists_experts_aliases_and_auto_with_context(gateway_url: str) -> None:
    models = {model["id"]: model for model in ask(gateway_url, "/v1/models", method="GET").json()["data"]}
    assert {"auto", "auto/math", "auto/law", "auto/coding", "generalist", "math", "law", "coding", "embed"} <= set(
        models
    )
    assert models["generalist"]["max_model_len"] == 2048
    assert models["embed"]["max_model_len"] == 512


def test_route_decides_without_asking_an_expert(gateway_url: str, vllm: dict[str, VllmServer]) -> None:
    before = vllm["lora"].gauge("vllm:prompt_tokens_total")
    reply = ask(gateway_url, "/v1/route", _asking(MATHS, model="auto"))
    assert reply.status == 200
    assert b'"math"' in reply.body
    assert vllm["lora"].gauge("vllm:prompt_tokens_total") == before


def test_embeddings_auto_goes_to_the_one_that_serves_them(gateway_url: str) -> None:
    reply = ask(gateway_url, EMBEDDINGS, embedding("hello", model="auto"))
    assert (reply.status, _decision(reply)["expert"]) == (200, "embed")


def test_chat_pinned_to_the_embedding_expert_is_refused(gateway_url: str) -> None:
    reply = ask(gateway_url, CHAT, chat(model="embed"))
    assert (reply.status, reply.json()["error"]["param"]) == (400, "model")
