"""Wrong methods, paths and content types, and what of a client's request never goes on (OPERATIONS C14)."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator

import orjson
import pytest
import pytest_asyncio

from gateway.types import Endpoint
from tests.conftest import Town
from tests.faults.raw import (
    GENERATING,
    HOST,
    JSON,
    Connection,
    body_of,
    check_refusal,
    forwarded,
    open_town,
    refused,
    request,
)
from tests.harness import send_raw

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def town() -> AsyncIterator[Town]:
    async with open_town() as town:
        yield town


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND"])
@pytest.mark.parametrize("endpoint", Endpoint)
@pytest.mark.row("C14")
async def test_method_other_than_post_is_refused(town: Town, endpoint: Endpoint, method: str) -> None:
    before = forwarded(town)
    raw = request(body_of(endpoint), method=method, path=endpoint.path)
    await refused(town.gateway, raw, 405, code="method_not_allowed", path=endpoint.path)
    assert (await send_raw(town.gateway.url, raw)).headers["allow"] == "POST"
    assert forwarded(town) == before


@pytest.mark.parametrize("endpoint", Endpoint)
@pytest.mark.row("C14")
async def test_head_is_refused_without_a_body(town: Town, endpoint: Endpoint) -> None:
    reply = await town.gateway.http.head(endpoint.path)
    assert (reply.status_code, reply.content) == (405, b"")
    assert reply.headers["x-request-id"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/v1/models", 405),
        ("DELETE", "/v1/models/math", 405),
        ("GET", "/v1/route", 405),
        ("POST", "/health/live", 405),
        ("OPTIONS", "/metrics", 405),
        ("POST", "/v1/chat/completions/", 404),
        ("POST", "/v1/messages/", 404),
        ("POST", "/v1/messages/count_tokens", 404),
        ("POST", "/V1/chat/completions", 404),
        ("POST", "/v1/chat", 404),
        ("POST", "/chat/completions", 404),
        ("POST", "/v1/chat/completions;x=1", 404),
        ("POST", "/v1/chat/completions%00", 404),
        ("GET", "/v1/models/canary", 404),
        ("GET", "/metrics/", 404),
        # What vLLM serves beside the API must not be reachable through us (OPERATIONS 6.2, rule 8).
        ("POST", "/invocations", 404),
        ("POST", "/tokenize", 404),
        ("POST", "/v1/load_lora_adapter", 404),
        ("POST", "/pause", 404),
        ("GET", "/sim/state", 404),
        ("GET", "/version", 404),
        ("GET", "/nothing", 404),
    ],
)
@pytest.mark.row("C14")
async def test_path_or_method_unknown_is_refused_in_our_shape(town: Town, method: str, path: str, status: int) -> None:
    before = forwarded(town)
    answer = await send_raw(town.gateway.url, request(body_of(Endpoint.CHAT), method=method, path=path))
    # The outer Anthropic type belongs to the endpoint itself; framework errors have the plain form.
    check_refusal(answer, status, path="")
    assert forwarded(town) == before


@pytest.mark.parametrize(
    "content_type",
    [
        None,
        "",
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/jsonx",
        "application/json-seq",
        "text/html; x=application/json",
        "*/*",
        "application/json, text/plain",
    ],
)
@pytest.mark.row("C14")
async def test_content_type_other_than_json_is_refused(town: Town, content_type: str | None) -> None:
    headers = (HOST,) if content_type is None else (HOST, ("content-type", content_type))
    for endpoint in Endpoint:
        raw = request(body_of(endpoint), path=endpoint.path, headers=headers)
        await refused(town.gateway, raw, 415, code="unsupported_media_type", path=endpoint.path)


@pytest.mark.parametrize("content_type", ["application/json; charset=utf-8", "Application/JSON", "application/json ;x"])
async def test_content_type_json_in_any_spelling_is_accepted(town: Town, content_type: str) -> None:
    raw = request(body_of(Endpoint.CHAT), headers=(HOST, ("content-type", content_type)))
    assert (await send_raw(town.gateway.url, raw)).status == 200


@pytest.mark.parametrize("encoding", ["gzip", "br", "identity, gzip", "x"])
async def test_content_encoding_is_refused(town: Town, encoding: str) -> None:
    raw = request(body_of(Endpoint.CHAT), headers=(*JSON, ("content-encoding", encoding)))
    await refused(town.gateway, raw, 415)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("endpoint", GENERATING)
async def test_clients_headers_never_reach_the_expert(town: Town, endpoint: Endpoint, stream: bool) -> None:
    own = {
        "authorization": "Bearer canary",
        "x-api-key": "canary",
        "cookie": "canary=1",
        "x-sim-fault": "status;code=500;message=canary",
        "x-forwarded-for": "6.6.6.6",
        "forwarded": "for=6.6.6.6",
        "x-pointsman-policy": "modem",
        "x-session-id": "canary",
        "traceparent": "00-canary-01",
        "accept-encoding": "gzip",
        "referer": "http://canary.example",
        "anthropic-beta": "canary",
        "openai-organization": "canary",
        "range": "bytes=0-1",
        "expect": "canary",
        "te": "trailers",
    }
    body = orjson.loads(body_of(endpoint, stream=stream))
    reply = await town.gateway.http.post(endpoint.path, json=body, headers=own)
    assert reply.status_code == 200
    got = {name.lower() for name in town.servers["math"].prompts[-1].headers}
    assert got == {"host", "content-length", "accept", "content-type", "user-agent", "x-request-id"}
    assert "canary" not in str(dict(town.servers["math"].prompts[-1].headers))
    assert "canary" not in str(reply.headers)


@pytest.mark.parametrize("stream", [False, True])
async def test_experts_down_error_names_no_address(stream: bool) -> None:
    async with open_town() as town:
        for server in town.servers.values():
            server.refuse(drop=True)
        for endpoint in GENERATING:
            raw = request(body_of(endpoint, stream=stream), path=endpoint.path)
            answer = await send_raw(town.gateway.url, raw)
            check_refusal(answer, 503, code="upstream_unreachable", path=endpoint.path)
            shown = answer.body.decode() + str(answer.headers)
            assert not [server.port for server in town.servers.values() if str(server.port) in shown]
            assert answer.headers["x-should-retry"] == "false"


async def test_route_content_type_other_than_json_is_refused(town: Town) -> None:
    raw = request(body_of(Endpoint.CHAT), path="/v1/route", headers=(HOST, ("content-type", "text/plain")))
    check_refusal(await send_raw(town.gateway.url, raw), 415)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"model":"auto"}', b'{"model":"auto","messages":[]}', b"\xff"])
async def test_route_bad_body_is_refused(town: Town, body: bytes) -> None:
    check_refusal(await send_raw(town.gateway.url, request(body, path="/v1/route")), 400)


async def test_route_client_leaves_in_the_body_without_a_traceback(
    town: Town, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    async with Connection(town.gateway.url) as client:
        await client.send(request(b"{" * 9, path="/v1/route").removesuffix(b"{"))
    # Answered after the disconnect has been seen: the loop handles connections in order.
    for _ in range(3):
        await town.gateway.http.get("/health/live")
    assert not caplog.records


@pytest.mark.parametrize("path", ["/v1/models", "/health/live", "/metrics"])
async def test_request_id_is_on_answers_of_control_endpoints(town: Town, path: str) -> None:
    reply = await town.gateway.http.get(path, headers={"x-request-id": "mine"})
    assert reply.status_code == 200
    assert reply.headers.get("x-request-id") == "mine"
