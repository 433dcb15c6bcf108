"""Bodies that are not acceptable, at every endpoint: one form, in time, one record (OPERATIONS C2 to C5, C8, C10)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import orjson
import pytest
import pytest_asyncio

from gateway.types import Endpoint
from tests.conftest import Town
from tests.faults.raw import VALID, WORD, body_of, forwarded, open_town, refused, request
from tests.harness import send_raw

pytestmark = pytest.mark.asyncio(loop_scope="module")

WORD_BYTES = WORD.encode()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def town() -> AsyncIterator[Town]:
    async with open_town() as town:
        yield town


def with_field(json: bytes) -> Callable[[bytes], bytes]:
    """Add a field that the gateway itself does not read."""
    return lambda body: body[:-1] + b',"extra":' + json + b"}"


def with_text(text: bytes) -> Callable[[bytes], bytes]:
    return lambda body: body.replace(WORD_BYTES, text)


NOT_JSON: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda body: b"",
    "blank": lambda body: b" \r\n",
    "cut": lambda body: body[:-1],
    "two documents": lambda body: body + body,
    "form": lambda body: b"model=auto&prompt=x",
    "single quotes": lambda body: body.replace(b'"', b"'"),
    "trailing comma": lambda body: body[:-1] + b",}",
    "comment": lambda body: b"/* hi */" + body,
    "NUL after": lambda body: body + b"\0",
    "UTF-16": lambda body: body.decode().encode("utf-16"),
    "UTF-16 without mark": lambda body: body.decode().encode("utf-16-le"),
    "UTF-32": lambda body: body.decode().encode("utf-32"),
    "byte order mark": lambda body: b"\xef\xbb\xbf" + body,
    "invalid UTF-8": with_text(b"\xff\xfe"),
    "Latin-1": with_text("é".encode("latin-1")),
    "overlong UTF-8": with_text(b"\xc0\xaf"),
    "surrogate in UTF-8": with_text(b"\xed\xa0\x80"),
    "cut UTF-8": with_text(b"\xf0\x9f\x98"),
    "lone high surrogate": with_text(rb"\ud83d"),
    "lone low surrogate": with_text(rb"\ude00 x"),
    "surrogates swapped": with_text(rb"\ude00\ud83d"),
    "bare control character": with_text(b"\x01"),
    "bare line feed": with_text(b"\n"),
    "NaN": with_field(b"NaN"),
    "Infinity": with_field(b"Infinity"),
    "minus Infinity": with_field(b"[-Infinity]"),
    "number beyond a double": with_field(b"1e999"),
    "number of 5000 digits": with_field(b"9" * 5000),
    "leading zero": with_field(b"01"),
    "hexadecimal": with_field(b"0x1"),
    "nested 10^3 lists": with_field(b"[" * 1_000 + b"]" * 1_000),
    "nested 10^3 objects": with_field(b'{"a":' * 1_000 + b"0" + b"}" * 1_000),
    "nested 10^5 lists": with_field(b"[" * 100_000 + b"]" * 100_000),
    "10^5 open lists": lambda body: b"[" * 100_000,
    "10^5 open objects": lambda body: b'{"a":' * 100_000,
    "list": lambda body: b"[" + body + b"]",
    "string": lambda body: b'"auto"',
    "number": lambda body: b"1",
    "null": lambda body: b"null",
}


@pytest.mark.parametrize("endpoint", Endpoint)
@pytest.mark.row("C2", "C3", "C4")
async def test_body_not_json_is_refused(town: Town, endpoint: Endpoint) -> None:
    before = forwarded(town)
    for name, spoil in NOT_JSON.items():
        body = spoil(body_of(endpoint))
        error = await refused(town.gateway, request(body, path=endpoint.path), path=endpoint.path)
        assert error["type"] == "invalid_request_error", name
    assert forwarded(town) == before


@pytest.mark.row("C2")
async def test_body_nested_deeply_inside_messages_is_refused(town: Town) -> None:
    deep = b'[{"type":"text","text":' * 2_000 + b'"x"' + b"}]" * 2_000
    await refused(town.gateway, request(body_of(Endpoint.CHAT).replace(b'"math"', deep)))
    # Not so deep that the parser stops, but deeper than what can be written again.
    deep = b'[{"type":"text","text":' * 300 + b'"x"' + b"}]" * 300
    await refused(town.gateway, request(body_of(Endpoint.CHAT).replace(b'"math"', deep)))


async def test_error_message_holds_nothing_of_the_body(town: Town) -> None:
    for body in (b'{"model":"auto","canary":', b"canary", b'{"model":"auto","messages":"canary"}'):
        error = await refused(town.gateway, request(body))
        assert "canary" not in str(error)


@pytest.mark.parametrize(
    "twice",
    [
        b'{"model":"generalist","messages":[{"role":"user","content":"math"}],"model":"auto",'
        b'"messages":[{"role":"user","content":"coding"}]}',
        b'{"model":"auto","messages":[{"role":"user","content":"math","content":"coding"}]}',
        b'{"model":"auto","messages":[{"role":"user","content":"math"}],'
        b'"mess\\u0061ges":[{"role":"user","content":"coding"}]}',
        b'{"model":"math","stream":true,"m\\u006fdel":"auto","messages":[{"role":"user","content":"coding"}],'
        b'"stream":false}',
    ],
)
@pytest.mark.row("C5")
async def test_body_with_duplicate_keys_is_forwarded_as_it_was_classified(town: Town, twice: bytes) -> None:
    answer = await send_raw(town.gateway.url, request(twice))
    assert (answer.status, answer.headers["x-pointsman-expert"]) == (200, "coding")
    assert answer.headers["content-type"] == "application/json"
    sent = town.servers["coding"].prompts[-1].body
    for key in (b'"model"', b'"messages"', b'"content"'):
        assert sent.count(key) == 1
    assert b"\\u00" not in sent
    assert orjson.loads(sent)["messages"] == [{"role": "user", "content": "coding"}]


MISSING: dict[Endpoint, str] = {
    Endpoint.CHAT: "messages",
    Endpoint.MESSAGES: "messages",
    Endpoint.COMPLETIONS: "prompt",
    Endpoint.RESPONSES: "input",
    Endpoint.EMBEDDINGS: "input",
}


@pytest.mark.parametrize("endpoint", Endpoint)
@pytest.mark.row("C8")
async def test_prompt_missing_or_of_a_wrong_type_is_refused_by_name(town: Town, endpoint: Endpoint) -> None:
    name = MISSING[endpoint]
    without = orjson.dumps({key: value for key, value in VALID[endpoint].items() if key != name})
    wrong: tuple[Any, ...] = (None, [], {}, 0, 1.5, True)
    bodies = [without, *(body_of(endpoint, **{name: value}) for value in wrong)]
    for body in bodies:
        error = await refused(town.gateway, request(body, path=endpoint.path), path=endpoint.path)
        assert error["param"] == name


@pytest.mark.parametrize(
    ("messages", "param"),
    [
        ("hello", "messages"),
        ([None], "messages[0]"),
        (["hello"], "messages[0]"),
        ([[{"role": "user", "content": "x"}]], "messages[0]"),
        ([{}], "messages[0].role"),
        ([{"content": "x"}], "messages[0].role"),
        ([{"role": None, "content": "x"}], "messages[0].role"),
        ([{"role": ["user"], "content": "x"}], "messages[0].role"),
        ([{"role": "User", "content": "x"}], "messages[0].role"),
        ([{"role": "admin\u202e", "content": "x"}], "messages[0].role"),
        ([{"role": "user", "content": "x"}, {"role": "root", "content": "x"}], "messages[1].role"),
        ([{"role": "user", "content": 7}], "messages[0].content"),
        ([{"role": "user", "content": {"text": "x"}}], "messages[0].content"),
        ([{"role": "user", "content": False}], "messages[0].content"),
        ([{"role": "user", "content": [None]}], "messages[0].content[0]"),
        ([{"role": "user", "content": [["x"]]}], "messages[0].content[0]"),
        ([{"role": "user", "content": [{"type": "text", "text": "x"}, 5]}], "messages[0].content[1]"),
        ([{"role": "user", "content": "x"}] * 10_000, "messages"),
    ],
)
@pytest.mark.parametrize("endpoint", [Endpoint.CHAT, Endpoint.MESSAGES])
@pytest.mark.row("C8")
async def test_messages_malformed_are_refused_at_the_spot(
    town: Town, endpoint: Endpoint, messages: Any, param: str
) -> None:
    raw = request(body_of(endpoint, messages=messages), path=endpoint.path)
    assert (await refused(town.gateway, raw, path=endpoint.path))["param"] == param


@pytest.mark.parametrize("field", ["stream", "stream_options", "n", "max_tokens", "model", "chat_template_kwargs"])
@pytest.mark.parametrize("endpoint", Endpoint)
async def test_field_of_a_wrong_type_is_refused_by_name(town: Town, endpoint: Endpoint, field: str) -> None:
    wrong: tuple[Any, ...] = ("yes", 1.5, ["x"])
    for value in wrong:
        if field == "model" and value == "yes":
            continue
        raw = request(body_of(endpoint, **{field: value}), path=endpoint.path)
        assert (await refused(town.gateway, raw, path=endpoint.path))["param"] == field


@pytest.mark.parametrize(
    "model",
    ["gpt-9-canary", "AUTO", "Math", "auto ", "auto/canary", "auto/", "auto:", "../canary", "a\0\r\nb\u202e", "🦄"],
)
@pytest.mark.row("C10")
async def test_model_unknown_is_not_found_and_no_label(town: Town, model: str) -> None:
    for endpoint in Endpoint:
        raw = request(body_of(endpoint, model=model), path=endpoint.path)
        error = await refused(town.gateway, raw, 404, code="model_not_found", path=endpoint.path)
        assert error["param"] == "model"
    exposition = (await town.gateway.http.get("/metrics")).text
    assert "canary" not in exposition
    assert 'code="model_not_found"' in exposition


@pytest.mark.parametrize("model", ["", None, 0, True, ["auto"], {"name": "auto"}])
@pytest.mark.row("C10")
async def test_model_no_name_is_refused(town: Town, model: Any) -> None:
    assert (await refused(town.gateway, request(body_of(Endpoint.CHAT, model=model))))["param"] == "model"


@pytest.mark.row("C10")
async def test_model_of_10_kb_is_refused_and_not_repeated(town: Town) -> None:
    raw = request(body_of(Endpoint.CHAT, model="m" * 10_240))
    before = len(town.gateway.recorder.records)
    answer = await send_raw(town.gateway.url, raw)
    assert answer.status in (400, 404)
    assert len(answer.body) < 1_000
    record = (await town.gateway.recorder.wait_for(before + 1))[-1]
    assert len(record.request_model) <= 256


@pytest.mark.row("C10")
async def test_model_of_10_kb_is_not_found(town: Town) -> None:
    await refused(town.gateway, request(body_of(Endpoint.CHAT, model="m" * 10_240)), 404, code="model_not_found")


@pytest.mark.parametrize("model", ["auto", "math", "sim/math", "auto/math", "auto:modem"])
@pytest.mark.row("C10")
async def test_model_known_is_answered_by_its_expert(town: Town, model: str) -> None:
    reply = await town.gateway.chat("math", model=model)
    assert (reply.status_code, reply.headers["x-pointsman-expert"]) == (200, "math")


async def test_policy_unknown_is_refused(town: Town) -> None:
    headers = (("host", "localhost"), ("content-type", "application/json"), ("x-pointsman-policy", "canary"))
    error = await refused(town.gateway, request(body_of(Endpoint.CHAT), headers=headers), code="unknown_policy")
    assert "canary" not in str(error)
    raw = request(body_of(Endpoint.CHAT, model="auto:canary"))
    assert (await refused(town.gateway, raw, code="unknown_policy"))["param"] == "model"


async def test_policy_unknown_in_the_header_is_not_blamed_on_model(town: Town) -> None:
    headers = (("host", "localhost"), ("content-type", "application/json"), ("x-pointsman-policy", "canary"))
    error = await refused(town.gateway, request(body_of(Endpoint.CHAT), headers=headers), code="unknown_policy")
    assert error["param"] != "model"
