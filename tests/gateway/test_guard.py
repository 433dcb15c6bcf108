"""What the guard lets through, over raw sockets: hosts, paths, headers, ids, keys (OPERATIONS 1.3, C14 to C16)."""

from __future__ import annotations

from collections.abc import AsyncIterator

import orjson
import pytest
import pytest_asyncio
from pydantic import ValidationError

from gateway.settings import ServerSettings
from gateway.types import Endpoint
from tests.conftest import Town
from tests.faults.raw import (
    HOST,
    JSON,
    Connection,
    body_of,
    check_refusal,
    chunked,
    forwarded,
    open_town,
    refused,
    request,
)
from tests.harness import send_raw

pytestmark = pytest.mark.asyncio(loop_scope="module")

CONTENT_TYPE = ("content-type", "application/json")
BODY = body_of(Endpoint.CHAT)
KEYS = ("first-canary-key", "second-canary-key")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def town() -> AsyncIterator[Town]:
    async with open_town() as town:
        yield town


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def locked() -> AsyncIterator[Town]:
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("CLIENT_KEYS", ", ".join(KEYS))
        server = {"port": 0, "log_requests": False, "api_keys_env": "CLIENT_KEYS"}
        async with open_town(server=server) as town:
            yield town


@pytest.mark.parametrize(
    "headers",
    [
        (CONTENT_TYPE,),
        (HOST, HOST, CONTENT_TYPE),
        (HOST, ("Host", "evil.example"), CONTENT_TYPE),
        (("host", ""), CONTENT_TYPE),
        (("host", "a/v1/models?x="), CONTENT_TYPE),
        (("host", "user@a"), CONTENT_TYPE),
        (("host", "a b"), CONTENT_TYPE),
        (("host", "a" * 256), CONTENT_TYPE),
        (("host", "é"), CONTENT_TYPE),
    ],
)
@pytest.mark.row("C15")
async def test_host_not_exactly_one_is_refused(town: Town, headers: tuple[tuple[str, str], ...]) -> None:
    before = forwarded(town)
    check_refusal(await send_raw(town.gateway.url, request(BODY, headers=headers)), 400)
    assert forwarded(town) == before


async def status_for_host(town: Town, host: str, *more: tuple[str, str]) -> int:
    """How a request to this host is answered; refusals must have reached nobody."""
    before = forwarded(town)
    answer = await send_raw(town.gateway.url, request(BODY, headers=(("host", host), CONTENT_TYPE, *more)))
    if answer.status != 200:
        check_refusal(answer, 400, code="unknown_host")
        assert b"evil" not in answer.body
    assert forwarded(town) == before + (answer.status == 200)
    return answer.status


OWN_HOSTS = ["localhost", "LocalHost:8080", "app.localhost:1", "localhost.", "127.0.0.1", "127.0.0.1:99", "[::1]:8080"]
OWN_HOSTS += ["10.1.2.3", "[::ffff:127.0.0.1]"]


@pytest.mark.parametrize("host", OWN_HOSTS)
async def test_host_of_ours_is_accepted(town: Town, host: str) -> None:
    assert await status_for_host(town, host) == 200


@pytest.mark.parametrize(
    "host",
    [
        *["evil.example", "evil.example:8080", "localhost.evil.example", "evil-localhost", "localhost-evil.example"],
        *["127.0.0.1.evil.example", "127.0.0.1.nip.io", "1.2.3.4.5", "0x7f.1", "2130706433", "[::1].evil.example"],
        *["gateway", "localhost:80:80", ".localhost.evil"],
    ],
)
async def test_h8_host_of_a_rebound_name_is_refused_where_no_key_is_needed(town: Town, host: str) -> None:
    """The name of a foreign page that now means our address: its requests carry that name (DNS rebinding)."""
    assert await status_for_host(town, host) == 400


@pytest.mark.parametrize("host", ["gateway", "gateway:8080", "a_b.example"])
async def test_host_of_any_name_is_accepted_where_keys_are_needed(locked: Town, host: str) -> None:
    assert await status_for_host(locked, host, ("x-api-key", KEYS[0])) == 200


async def test_host_is_checked_against_the_names_that_are_listed() -> None:
    server = {"port": 0, "log_requests": False, "hosts": ["Api.Example.com", "*.inner.example"]}
    async with open_town(server=server) as town:
        for host in ("api.example.com", "API.example.COM:443", "a.inner.example", "a.b.inner.example.", *OWN_HOSTS):
            assert await status_for_host(town, host) == 200, host
        for host in ("example.com", "x.api.example.com", "inner.example", "ainner.example", "gateway"):
            assert await status_for_host(town, host) == 400, host


async def test_host_of_any_name_is_accepted_with_a_star() -> None:
    async with open_town(server={"port": 0, "log_requests": False, "hosts": ["*"]}) as town:
        assert await status_for_host(town, "evil.example") == 200


@pytest.mark.parametrize("names", [["http://a"], ["a:80"], ["a b"], [""], ["*.*"], ["a.*"], ["[::1]"], ["é"]])
async def test_host_that_could_never_match_is_no_setting(names: list[str]) -> None:
    with pytest.raises(ValidationError):
        ServerSettings.model_validate({"hosts": names})


async def test_host_missing_in_http_1_0_is_accepted(town: Town) -> None:
    answer = await send_raw(town.gateway.url, request(BODY, headers=(CONTENT_TYPE,), version="1.0"))
    assert answer.status == 200


@pytest.mark.parametrize(
    "path",
    [
        "//v1/chat/completions",
        "/v1//chat/completions",
        "/%2fv1/chat/completions",
        "/v1/../v1/chat/completions",
        "/v1/%2e%2e/v1/chat/completions",
        "/v1/..%2fv1/chat/completions",
        "/health/../v1/chat/completions",
        "/v1/..",
        "/v1\\chat",
        "/v1/%5c..%5cchat",
        "*",
    ],
)
@pytest.mark.row("C15")
async def test_path_ambiguous_is_refused(town: Town, path: str) -> None:
    before = forwarded(town)
    method = "OPTIONS" if path == "*" else "POST"
    check_refusal(await send_raw(town.gateway.url, request(BODY, path=path, method=method)), 400)
    assert forwarded(town) == before


@pytest.mark.parametrize(
    "raw",
    [
        b"POST /v1/chat/completions HTTP/1.1\nhost: x\n\n",
        b"GET @evil.example HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\nhost: x\r\n\r\n",
        b"CONNECT evil.example:80 HTTP/1.1\r\nhost: x\r\n\r\n",
        b"BREW /v1/models HTTP/1.1\r\nhost: x\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        request(BODY).replace(b"content-length", b"transfer-encoding: chunked\r\ncontent-length"),
        request(BODY).replace(b"content-length: ", b"content-length: -"),
        request(BODY).replace(b"content-length: ", b"content-length: 0\r\ncontent-length: "),
        request(BODY).replace(b"content-length: ", b"content-length: " + b"9" * 30),
        request(BODY, headers=(*JSON, ("transfer-encoding", "identity, evil"))),
        request(BODY, headers=(*JSON, ("x-nul", "a\0b"))),
        request(BODY, headers=(*JSON, ("x-space ", "a"))),
        request(BODY, headers=(*JSON, ("x-folded", "a\r\n b"))),
        request(BODY, headers=(*JSON, ("x-cr", "a\rb"))),
        request(BODY, path="/v1/" + "a" * 100_000),
    ],
)
@pytest.mark.row("C15", "C16")
async def test_malformed_http_is_refused_and_goes_nowhere(town: Town, raw: bytes) -> None:
    before = forwarded(town)
    answer = await send_raw(town.gateway.url, raw)
    assert answer.status == 400
    assert b"Traceback" not in answer.body
    assert forwarded(town) == before


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/health/live", "/admin"])
@pytest.mark.row("C15")
async def test_absolute_form_is_refused(town: Town, path: str) -> None:
    """It is for forward proxies, which we are not (OPERATIONS C15)."""
    check_refusal(await send_raw(town.gateway.url, request(BODY, path=f"http://evil.example{path}")), 400)


@pytest.mark.row("C15")
async def test_chunked_body_in_http_1_0_is_refused(town: Town) -> None:
    check_refusal(await send_raw(town.gateway.url, chunked(BODY, version="1.0")), 400)


@pytest.mark.parametrize("protocol", ["h2c", "websocket"])
async def test_upgrade_offered_is_ignored(town: Town, protocol: str) -> None:
    offer = (*JSON, ("connection", "Upgrade, HTTP2-Settings"), ("upgrade", protocol), ("http2-settings", "AAMA"))
    answer = await send_raw(town.gateway.url, request(BODY, headers=offer))
    assert answer.status == 200


@pytest.mark.parametrize(
    "flood",
    [
        tuple((f"x-{index}", "v") for index in range(200)),
        tuple(("x-same", "v") for _ in range(5_000)),
        (("x-long", "v" * 65_536),),
        (("x-" + "n" * 65_536, "v"),),
        (("cookie", "c=" + "v" * 40_000),),
        (("x-long", "v" * 2_000_000),),
    ],
)
@pytest.mark.row("C16")
async def test_headers_too_many_or_too_long_are_refused(town: Town, flood: tuple[tuple[str, str], ...]) -> None:
    before = forwarded(town)
    answer = await send_raw(town.gateway.url, request(BODY, headers=(*JSON, *flood)))
    check_refusal(answer, 431, code="headers_too_large")
    assert forwarded(town) == before


async def test_headers_of_an_ordinary_browser_are_accepted(town: Town) -> None:
    many = tuple((f"x-{index}", "v" * 200) for index in range(60))
    assert (await send_raw(town.gateway.url, request(BODY, headers=(*JSON, *many)))).status == 200


@pytest.mark.row("C16")
async def test_header_with_an_underscore_twin_is_refused(town: Town) -> None:
    twins = (*JSON, ("x-request-id", "one"), ("x_request_id", "two"))
    check_refusal(await send_raw(town.gateway.url, request(BODY, headers=twins)), 400)


async def test_header_with_an_underscore_alone_changes_nothing(town: Town) -> None:
    odd = (*JSON, ("content_type", "text/plain"), ("x_request_id", "two"), ("x_pointsman_policy", "canary"))
    answer = await send_raw(town.gateway.url, request(BODY, headers=odd))
    assert answer.status in (200, 400)
    assert answer.headers["x-request-id"] != "two"


@pytest.mark.parametrize("given", ["a", "req_01.AB-c", "a" * 128, "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa-01"])
async def test_request_id_valid_is_echoed_and_forwarded(town: Town, given: str) -> None:
    headers = (*JSON, ("X-Request-Id", given))
    for endpoint in (Endpoint.CHAT, Endpoint.COMPLETIONS, Endpoint.RESPONSES, Endpoint.MESSAGES):
        for stream in (False, True):
            raw = request(body_of(endpoint, stream=stream), path=endpoint.path, headers=headers)
            # HTTP/1.0, so that a stream's end is the connection's.
            answer = await send_raw(town.gateway.url, raw.replace(b"HTTP/1.1", b"HTTP/1.0"))
            assert (answer.status, answer.headers["x-request-id"]) == (200, given)
            assert town.servers["math"].prompts[-1].headers["x-request-id"] == given
    assert {record.request_id for record in town.gateway.recorder.records[-7:]} == {given}
    refusal = await send_raw(town.gateway.url, request(b"{", headers=headers))
    assert refusal.headers["x-request-id"] == given


@pytest.mark.parametrize(
    "given", ["", "a b", "a" * 129, "a;b", 'a"b', "${jndi:x}", "<b>", "é", "a/../b", "a\tb", "a,b", "a%0d%0ab"]
)
async def test_request_id_invalid_is_replaced(town: Town, given: str) -> None:
    answer = await send_raw(town.gateway.url, request(BODY, headers=(*JSON, ("x-request-id", given))))
    made = answer.headers["x-request-id"]
    assert answer.status == 200
    assert len(made) == 32
    assert set(made) <= set("0123456789abcdef")
    assert town.servers["math"].prompts[-1].headers["x-request-id"] == made


async def test_request_ids_made_differ(town: Town) -> None:
    made = {(await town.gateway.chat("math")).headers["x-request-id"] for _ in range(10)}
    assert len(made) == 10


async def test_key_missing_or_wrong_is_refused_without_work(locked: Town) -> None:
    wrong = [
        (),
        (("authorization", "Bearer first-canary-ke"),),
        (("authorization", "Bearer first-canary-keyy"),),
        (("authorization", "Bearer FIRST-CANARY-KEY"),),
        (("authorization", "Bearer first-canary-key, second-canary-key"),),
        (("authorization", "Bearer"),),
        (("authorization", "Bearer "),),
        (("authorization", "first-canary-key"),),
        (("authorization", "Basic first-canary-key"),),
        (("authorization", "Bearer é"),),
        (("x-api-key", "canary"),),
        (("x_api_key", "first-canary-key"),),
        (("cookie", "api_key=first-canary-key"),),
    ]
    before = forwarded(locked)
    for endpoint in Endpoint:
        for headers in wrong:
            raw = request(body_of(endpoint), path=endpoint.path + "?api_key=first-canary-key", headers=JSON + headers)
            answer = await send_raw(locked.gateway.url, raw)
            error = check_refusal(answer, 401, code="invalid_api_key", path=endpoint.path)
            assert error["type"] == "authentication_error"
            assert answer.headers["www-authenticate"] == "Bearer"
            assert b"canary" not in answer.body
    assert forwarded(locked) == before


async def test_key_missing_is_refused_on_every_page_but_health(locked: Town) -> None:
    paths = ("/v1/models", "/v1/models/math", "/v1/route", "/metrics", "/docs", "/openapi.json", "/nope", "/health")
    for path in paths:
        check_refusal(await send_raw(locked.gateway.url, request(method="GET", path=path)), 401)
    for path in ("/health/live", "/health/ready"):
        assert (await send_raw(locked.gateway.url, request(method="GET", path=path))).status == 200


@pytest.mark.parametrize(
    "header",
    [
        ("authorization", f"Bearer {KEYS[0]}"),
        ("Authorization", f"bearer  {KEYS[1]} "),
        ("x-api-key", KEYS[0]),
    ],
)
async def test_key_right_lets_in_and_stays_here(locked: Town, header: tuple[str, str]) -> None:
    answer = await send_raw(locked.gateway.url, request(BODY, headers=(*JSON, header)))
    assert answer.status == 200
    seen = str(dict(locked.servers["math"].prompts[-1].headers))
    record = (await locked.gateway.recorder.wait_for(1))[-1]
    assert "canary" not in seen + answer.body.decode() + str(record)


async def test_refusal_by_the_guard_has_a_record(locked: Town) -> None:
    error = await refused(locked.gateway, request(BODY), 401)
    assert error["code"] == "invalid_api_key"


@pytest.mark.parametrize("origin", ["http://evil.example", "null"])
@pytest.mark.row("C14")
async def test_cross_origin_request_gets_no_permission(town: Town, origin: str) -> None:
    ask = (*JSON, ("origin", origin), ("access-control-request-method", "POST"))
    for path in (Endpoint.CHAT.path, "/v1/models", "/v1/route"):
        for method in ("OPTIONS", "POST", "GET"):
            answer = await send_raw(town.gateway.url, request(BODY, method=method, path=path, headers=ask))
            assert not [name for name in answer.headers if name.startswith("access-control-")]
            assert method != "OPTIONS" or answer.status == 405


@pytest.mark.row("B7")
async def test_pipelined_requests_are_answered_in_order(town: Town) -> None:
    async with Connection(town.gateway.url) as client:
        ids = [f"pipelined-{index}" for index in range(4)]
        bodies = [BODY, b"{", body_of(Endpoint.CHAT, messages=[{"role": "user", "content": "coding"}]), BODY]
        await client.send(
            b"".join(
                request(body, headers=(*JSON, ("x-request-id", each))) for body, each in zip(bodies, ids, strict=True)
            )
        )
        answers = [await client.answer() for _ in ids]
    assert [answer.headers["x-request-id"] for answer in answers] == ids
    assert [answer.status for answer in answers] == [200, 400, 200, 200]
    assert orjson.loads(answers[2].body)["model"] == "sim/coding"


async def test_connection_goes_on_after_a_refusal_whose_body_was_not_read(town: Town) -> None:
    """The refused body must not be taken for the next request."""
    smuggled = request(BODY, path="/v1/completions")
    async with Connection(town.gateway.url) as client:
        for headers, status in (((HOST, ("content-type", "text/plain")), 415), ((HOST, HOST, CONTENT_TYPE), 400)):
            before = forwarded(town)
            await client.send(request(smuggled, headers=headers))
            assert (await client.answer()).status == status
            assert forwarded(town) == before
            await client.send(request(BODY))
            assert (await client.answer()).status == 200
