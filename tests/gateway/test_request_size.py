"""How much a request asks for, batches and token ids too, and that caps see all of it."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from gateway.openai import features_of, parse
from gateway.request_size import RequestSize, size_of
from gateway.settings import LimitSettings, PassThroughSettings
from gateway.types import Endpoint
from tests.conftest import Town


def size(endpoint: Endpoint, **body: Any) -> RequestSize:
    request = parse(endpoint, orjson.dumps({"model": "auto", **body}), LimitSettings(), PassThroughSettings())
    return size_of(request, features_of(request))


@pytest.mark.parametrize(
    ("endpoint", "body", "wanted"),
    [
        (Endpoint.COMPLETIONS, {"prompt": ["a" * 40, "b" * 400], "n": 3}, RequestSize(110, 100, None, 6)),
        (Endpoint.COMPLETIONS, {"prompt": list(range(1, 901)), "max_tokens": 5}, RequestSize(900, 900, 5, 1)),
        (Endpoint.COMPLETIONS, {"prompt": [[1, 2, 3], [4]]}, RequestSize(4, 3, None, 2)),
        (Endpoint.COMPLETIONS, {"prompt": "a" * 400}, RequestSize(104, 104, None, 1)),
        (Endpoint.EMBEDDINGS, {"input": ["é" * 20, "b"]}, RequestSize(11, 10, 0, 2)),
        (Endpoint.CHAT, {"messages": [{"role": "user", "content": "a" * 40}]}, RequestSize(14, 14, None, 1)),
    ],
)
def test_size_counts_every_prompt(endpoint: Endpoint, body: dict[str, Any], wanted: RequestSize) -> None:
    assert size(endpoint, **body) == wanted


@pytest.mark.parametrize("prompt", [["hi", *["word " * 2000] * 7], [list(range(1, 5000))] * 3])
async def test_price_cap_sees_the_whole_batch(start_town: Any, prompt: Any) -> None:
    town = await start_town(policy={"name": "modem", "price_cap": 0.001})
    for model in ("auto", "math"):
        body = {"model": model, "prompt": prompt, "max_tokens": 1}
        answer = await town.gateway.http.post("/v1/completions", json=body)
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "price_cap"), model


async def test_decision_is_hidden_from_clients_where_the_headers_are(start_town: Any) -> None:
    town: Town = await start_town(server={"decision_headers": "expert"})
    body = {"model": "auto", "messages": [{"role": "user", "content": "math"}]}
    answer = await town.gateway.http.post("/v1/route", json=body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "route_hidden")
