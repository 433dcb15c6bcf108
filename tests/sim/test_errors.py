"""Errors have vLLM's status, type, param and wording; every one comes before the first byte of a stream."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.sim import EMBEDDING_SERVICES, SimExpert
from tests.fixtures_sim import StartSim
from tests.sim.wire import CHAT, HELLO, chat, exchange, get, post, request_bytes

OUTSIDE = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]
TOOL = {"type": "function", "function": {"name": "f"}}
REFUSED: list[tuple[dict[str, Any], str, str | None, str]] = [
    ({"max_tokens": "ten"}, "Bad Request", "body.max_tokens", "unable to parse string as an integer"),
    ({"temperature": "hot"}, "Bad Request", "body.temperature", "unable to parse string as a number"),
    ({"stream": "yes please"}, "Bad Request", "body.stream", "unable to interpret input"),
    ({"messages": "hi"}, "Bad Request", "body.messages", "Input should be a valid list', 'input': 'hi'"),
    ({"stop": list("abcdef")}, "Bad Request", "body.stop", "at most 4 items after validation, not 6"),
    (
        {"messages": [{"content": "hi"}]},
        "Bad Request",
        "body.messages.0.ChatCompletionDeveloperMessageParam.role",
        "Field required",
    ),
    (
        {"messages": [{"role": "user", "content": 5}]},
        "Bad Request",
        "body.messages.0.ChatCompletionDeveloperMessageParam.content",
        "valid string",
    ),
    ({"response_format": {"type": "xml"}}, "Bad Request", "body.response_format.type", "'json_schema'"),
    ({"messages": []}, "BadRequestError", None, "empty conversation"),
    ({"messages": OUTSIDE}, "BadRequestError", None, "m is not a multimodal model"),
    ({"max_tokens": 0}, "BadRequestError", "max_tokens", "max_tokens must be at least 1, got 0."),
    ({"max_tokens": 100_000}, "BadRequestError", "max_tokens", "cannot be greater than max_model_len=100."),
    ({"temperature": 5}, "BadRequestError", "temperature", "in [0, 2], got 5.0. (parameter=temperature, value=5.0)"),
    ({"temperature": -1}, "BadRequestError", "temperature", "must be non-negative, got -1.0."),
    ({"top_p": 2}, "BadRequestError", "top_p", "must be in (0, 1], got 2.0."),
    ({"n": 0}, "BadRequestError", None, "n must be at least 1, got 0."),
    ({"n": 100_000}, "BadRequestError", None, "n must be at most 16384"),
    ({"n": 2, "temperature": 0}, "BadRequestError", None, "greedy sampling"),
    ({"top_logprobs": 3}, "BadRequestError", "top_logprobs", "`logprobs` must be set to true."),
    ({"logprobs": True, "top_logprobs": 100}, "BadRequestError", "logprobs", "greater than max allowed: 20"),
    ({"tools": []}, "BadRequestError", "tools", "must not be an empty array"),
    ({"tool_choice": "auto"}, "BadRequestError", "tool_choice", "`tools` must be set."),
    (
        {"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "nope"}}},
        "BadRequestError",
        "tool_choice",
        "does not match any of the specified `tools`",
    ),
    ({"response_format": {"type": "json_schema"}}, "BadRequestError", "response_format", "must be provided"),
    ({"messages": [{"role": "user", "content": "x " * 200}]}, "BadRequestError", "input_tokens", "at least 101 input"),
    ({"messages": [{"role": "user", "content": "x" * 9000}]}, "BadRequestError", "input_text", "9000 characters"),
]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("fields", "kind", "param", "message"), REFUSED)
async def test_chat_bad_field_is_refused_as_by_vllm(
    sim_server: StartSim, fields: dict[str, Any], kind: str, param: str | None, message: str, stream: bool
) -> None:
    server = await sim_server(SimExpert("m", max_model_len=100))
    answer = await chat(server, **{"stream": stream, **fields})
    assert answer.status == 400
    assert tuple(answer.json["error"]) == ("message", "type", "param", "code")
    assert message in answer.json["error"].pop("message")
    assert answer.json["error"] | {"message": ""} == {"message": "", "type": kind, "param": param, "code": 400}


RAW_BODIES: list[tuple[bytes, str]] = [
    (b'{"model": "m"} x', "'loc': 'body.15', 'msg': 'JSON decode error'"),
    (b'{"model": "m", "messages": [', "'error': 'Expecting value'"),
    (b"[]", "'type': 'model_attributes_type', 'loc': 'body'"),
    (b"", "'type': 'missing', 'loc': 'body', 'msg': 'Field required', 'input': 'None'"),
    (b'{"messages":[{"role":"user","content":"a"}],"temperature":NaN}', "must be a finite number, got nan."),
    (b'{"messages":[{"role":"user","content":"a\\ud800b"}]}', "TextEncodeInput must be Union"),
    (b'{"messages":' + b"[" * 100_000, "There was an error parsing the body"),
    (b'{"messages":[{"role":"user","content":"a\xff"}]}', "There was an error parsing the body"),
]


@pytest.mark.parametrize(("body", "message"), RAW_BODIES)
async def test_chat_unreadable_body_is_refused_as_by_vllm(sim_server: StartSim, body: bytes, message: str) -> None:
    answer = await post(await sim_server(), CHAT, body)
    assert answer.status == 400
    assert message in answer.body.decode()


@pytest.mark.parametrize("content_type", ["text/plain", ""])
async def test_chat_other_content_type_is_refused(sim_server: StartSim, content_type: str) -> None:
    answer = await post(await sim_server(), CHAT, {"messages": HELLO}, content_type=content_type)
    assert answer.status == 400
    assert answer.json["error"]["param"] is None
    assert "Unsupported Media Type" in answer.json["error"]["message"]


async def test_chat_stream_options_without_stream_are_refused(sim_server: StartSim) -> None:
    answer = await chat(await sim_server(), stream_options={"include_usage": True})
    assert answer.json["error"] == {
        "message": "Stream options can only be defined when `stream=True`. (parameter=stream_options)",
        "type": "BadRequestError",
        "param": "stream_options",
        "code": 400,
    }


@pytest.mark.parametrize("fields", [{}, {"stream": True}])
async def test_unknown_model_is_404_naming_base_names_only(sim_server: StartSim, fields: dict[str, Any]) -> None:
    server = await sim_server(SimExpert("m", aliases=("m2",), adapters=("lora",)))
    answer = await chat(server, model="nope", **fields)
    assert answer.status == 404
    assert answer.json["error"] == {
        "message": "The model `nope` does not exist. Valid aliases: m, m2.",
        "type": "NotFoundError",
        "param": "model",
        "code": 404,
    }


async def test_unknown_role_and_unknown_field_pass(sim_server: StartSim) -> None:
    answer = await chat(await sim_server(), messages=[{"role": "wizard", "content": "hi"}], frobnicate=1)
    assert answer.status == 200


async def test_duplicate_key_last_one_wins(sim_server: StartSim) -> None:
    body = b'{"model":"nope","model":"m","messages":[{"role":"user","content":"a"}]}'
    assert (await post(await sim_server(SimExpert("m")), CHAT, body)).json["model"] == "m"


@pytest.mark.parametrize(
    ("method", "path", "status", "detail", "allow"),
    [
        ("GET", CHAT, 405, "Method Not Allowed", "POST"),
        ("OPTIONS", CHAT, 405, "Method Not Allowed", "POST"),
        ("DELETE", "/v1/models", 405, "Method Not Allowed", "GET"),
        ("GET", "/v1/nope", 404, "Not Found", None),
        ("GET", "/v1/models/m", 404, "Not Found", None),
        ("GET", "/", 404, "Not Found", None),
    ],
)
async def test_wrong_path_or_method_has_the_frameworks_shape(
    sim_server: StartSim, method: str, path: str, status: int, detail: str, allow: str | None
) -> None:
    answer = await get(await sim_server(SimExpert("m")), path, method)
    assert answer.status == status
    assert answer.json == {"detail": detail}
    assert answer.headers.get("allow") == allow


async def test_trailing_slash_redirects(sim_server: StartSim) -> None:
    answer = await get(await sim_server(), "/v1/models/")
    assert answer.status == 307
    assert answer.headers["location"].endswith("/v1/models")


async def test_endpoint_of_another_task_is_404(sim_server: StartSim) -> None:
    embedder = await sim_server(SimExpert("e", serves=EMBEDDING_SERVICES))
    assert (await chat(embedder)).json == {"detail": "Not Found"}
    chatter = await sim_server(SimExpert("m"))
    assert (await post(chatter, "/v1/embeddings", {"input": "x"})).json == {"detail": "Not Found"}


@pytest.mark.parametrize(
    ("path", "header", "status"),
    [
        ("/v1/models", None, 401),
        ("/v1/nope", None, 401),
        ("/v1/models", "Bearer wrong", 401),
        ("/v1/models", "Basic c2VjcmV0", 401),
        ("/v1/models", "Bearer secret", 200),
        ("/v1/models", "bearer secret", 200),
        ("/health", None, 200),
        ("/metrics", None, 200),
        ("/version", None, 200),
    ],
)
async def test_key_guards_v1_only(sim_server: StartSim, path: str, header: str | None, status: int) -> None:
    server = await sim_server(SimExpert("m", api_key="secret"))
    answer = await get(server, path, **({"authorization": header} if header else {}))
    assert answer.status == status
    if status == 401:
        assert answer.body == b'{"error":"Unauthorized"}'


async def test_not_http_is_answered_with_400_text(sim_server: StartSim) -> None:
    answer = await exchange((await sim_server()).port, b"garbage\r\n\r\n")
    assert answer.status == 400
    assert answer.headers["content-type"].startswith("text/plain")


async def test_large_body_is_read(sim_server: StartSim) -> None:
    server = await sim_server()
    sent = request_bytes(
        "POST", CHAT, json.dumps({"messages": "x" * 5_000_000}).encode(), content_type="application/json"
    )
    assert (await exchange(server.port, sent)).status == 400
    assert len(server.requests[-1].body) > 5_000_000
