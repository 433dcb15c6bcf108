"""What the gateway itself refuses, before any expert hears of it: OpenAI's error shape, and at once."""

from __future__ import annotations

import json

import pytest

from .cases import CHAT, COMPLETIONS, EMBEDDINGS, MESSAGES, RESPONSES, chat, completion, embedding, message, response
from .processes import VllmServer
from .wire import Reply, ask, encoded

pytestmark = pytest.mark.vllm

LIMIT_S = 0.05
# The machine may be busy: the best of a few counts.
TRIES = 5

BAD_BODIES = {
    "empty": (CHAT, b"", 400),
    "cut": (CHAT, b'{"model": "tiny", "messages": [', 400),
    "trailing": (CHAT, encoded(chat()) + b"x", 400),
    "list": (CHAT, b"[]", 400),
    "string": (CHAT, b'"tiny"', 400),
    "nan": (CHAT, b'{"model": "tiny", "temperature": NaN, "messages": [{"role": "user", "content": "a"}]}', 400),
    "huge-number": (
        CHAT,
        b'{"model": "tiny", "temperature": 1e999, "messages": [{"role": "user", "content": "a"}]}',
        400,
    ),
    "utf-8": (CHAT, b'{"model": "tiny", "messages": [{"role": "user", "content": "\xff\xfe"}]}', 400),
    "utf-16": (CHAT, json.dumps(chat()).encode("utf-16"), 400),
    "surrogate": (CHAT, b'{"model": "tiny", "messages": [{"role": "user", "content": "\\ud800"}]}', 400),
    "deep": (CHAT, b'{"model": "tiny", "x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", 400),
    "no-model": (CHAT, {"messages": [{"role": "user", "content": "a"}]}, 400),
    "model-type": (CHAT, chat(model=5), 400),
    "model-unknown": (CHAT, chat(model="nope"), 404),
    "model-case": (CHAT, chat(model="TINY"), 404),
    "model-long": (CHAT, chat(model="a" * 10_240), 404),
    "domain-unknown": (CHAT, chat(model="auto/nope"), 404),
    "no-messages": (CHAT, {"model": "tiny"}, 400),
    "messages-null": (CHAT, chat(messages=None), 400),
    "messages-empty": (CHAT, chat(messages=[]), 400),
    "messages-string": (CHAT, chat(messages="hello"), 400),
    "message-string": (CHAT, chat(messages=["hello"]), 400),
    "message-without-role": (CHAT, chat(messages=[{"content": "hello"}]), 400),
    "message-role": (CHAT, chat(messages=[{"role": "wizard", "content": "hello"}]), 400),
    "content-number": (CHAT, chat(messages=[{"role": "user", "content": 5}]), 400),
    "stream-string": (CHAT, chat(stream="true"), 400),
    "n-string": (CHAT, chat(n="2"), 400),
    "n-huge": (CHAT, chat(n=1_000_000), 400),
    "max-tokens-string": (CHAT, chat(max_tokens="many"), 400),
    "max-tokens-negative": (CHAT, chat(max_tokens=-1), 400),
    "top-logprobs-huge": (CHAT, chat(logprobs=True, top_logprobs=100), 400),
    "denied-field": (CHAT, chat(chat_template="{{ messages }}"), 400),
    "removed-field": (CHAT, chat(guided_json={"type": "object"}), 400),
    "image-to-text-model": (
        CHAT,
        chat(
            messages=[{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://127.0.0.1:1/"}}]}]
        ),
        400,
    ),
    "completion-no-prompt": (COMPLETIONS, {"model": "tiny"}, 400),
    "completion-prompt-number": (COMPLETIONS, completion(5), 400),
    "response-no-input": (RESPONSES, {"model": "tiny"}, 400),
    "response-unknown-model": (RESPONSES, response(model="nope"), 404),
    "message-unknown-model": (MESSAGES, message(model="nope"), 404),
    "message-empty": (MESSAGES, message(messages=[]), 400),
    "embedding-no-input": (EMBEDDINGS, {"model": "tiny-bert"}, 400),
    "embedding-empty-list": (EMBEDDINGS, embedding([]), 400),
    "embedding-unknown-model": (EMBEDDINGS, embedding("hello", model="nope"), 404),
}


def _assert_our_error(reply: Reply, status: int) -> None:
    assert reply.status == status, reply.body
    assert reply.content_type.startswith("application/json")
    assert reply.headers["x-request-id"]
    error = reply.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"]
    assert error["type"].endswith("_error")
    assert isinstance(error["code"], str)
    assert b"Traceback" not in reply.body


@pytest.mark.parametrize(("path", "body", "status"), BAD_BODIES.values(), ids=BAD_BODIES)
def test_bad_body_refused_in_openai_shape_at_once(
    gateway_url: str, vllm: dict[str, VllmServer], path: str, body: object, status: int
) -> None:
    replies = [ask(gateway_url, path, body) for _ in range(TRIES)]
    for reply in replies:
        _assert_our_error(reply, status)
    assert min(reply.wall_s for reply in replies) < LIMIT_S


@pytest.mark.parametrize("content_type", ["text/plain", "multipart/form-data; boundary=x", "application/xml"])
def test_wrong_content_type_refused(gateway_url: str, content_type: str) -> None:
    _assert_our_error(ask(gateway_url, CHAT, chat(), headers={"content-type": content_type}), 415)


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH"])
def test_wrong_method_refused(gateway_url: str, method: str) -> None:
    _assert_our_error(ask(gateway_url, CHAT, method=method), 405)


@pytest.mark.parametrize("path", ["/v1/nope", "/v1/chat/completions/", "/nope", "/v2/chat/completions"])
def test_unknown_path_refused(gateway_url: str, path: str) -> None:
    _assert_our_error(ask(gateway_url, path, chat()), 404)


def test_bad_body_costs_the_engine_nothing(gateway_url: str, vllm: dict[str, VllmServer]) -> None:
    before = vllm["lora"].gauge("vllm:prompt_tokens_total")
    for path, body, _ in BAD_BODIES.values():
        ask(gateway_url, path, body)
    assert vllm["lora"].gauge("vllm:prompt_tokens_total") == before
