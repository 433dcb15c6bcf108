"""What is cacheable, and what two requests must have in common to share an answer."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.cache import Bypass, Wish, cacheable, key_of, scope_of, wish_of
from gateway.cache.rules import MAXIMUM_BODY_BYTES
from gateway.errors import InvalidRequest
from gateway.openai import ApiRequest, parse
from gateway.rewriting import rewrite_of
from gateway.settings import CacheSettings, LimitSettings, PassThroughSettings
from gateway.types import Endpoint, Expert, Grant
from tests.gateway.routing import expert

MATH = expert("math", "math")
HELLO = {"model": "auto", "messages": [{"role": "user", "content": "hello"}], "temperature": 0}


def read(body: dict[str, Any], endpoint: Endpoint = Endpoint.CHAT) -> ApiRequest:
    return parse(endpoint, orjson.dumps(body), LimitSettings(), PassThroughSettings())


def chat(**fields: Any) -> ApiRequest:
    return read({**HELLO, **fields})


def digest(
    request: ApiRequest,
    to: Expert = MATH,
    scope: tuple[str, ...] = ("key", "a"),
    version: str = "v",
    pinned: bool = False,
) -> bytes | None:
    return key_of(scope, request, to, version, pinned=pinned)


@pytest.mark.parametrize("temperature", [0, 0.0, -0.0])
def test_temperature_zero_is_cacheable(temperature: float) -> None:
    assert cacheable(chat(temperature=temperature)) is None
    assert cacheable(chat(temperature=temperature, n=1, stream=True, seed=7, max_tokens=5)) is None


@pytest.mark.parametrize("fields", [{"temperature": 0.01}, {"temperature": None}, {"temperature": 1, "seed": 1}])
def test_sampled_answers_are_not(fields: dict[str, Any]) -> None:
    assert cacheable(chat(**fields)) is Bypass.SAMPLED


def test_absent_temperature_is_the_models_own_and_not_cacheable() -> None:
    body = {name: value for name, value in HELLO.items() if name != "temperature"}
    assert cacheable(read(body)) is Bypass.SAMPLED


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"n": 2}, Bypass.SEVERAL_ANSWERS),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, Bypass.TOOLS),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]}, Bypass.MEDIA),
    ],
)
def test_others_are_not(fields: dict[str, Any], why: Bypass) -> None:
    assert cacheable(chat(**fields)) is why


def test_completions_and_embeddings() -> None:
    prompt = {"model": "auto", "prompt": "one", "temperature": 0}
    assert cacheable(read(prompt, Endpoint.COMPLETIONS)) is None
    assert cacheable(read({**prompt, "best_of": 2}, Endpoint.COMPLETIONS)) is Bypass.SEVERAL_ANSWERS
    assert cacheable(read({"model": "auto", "input": "one"}, Endpoint.EMBEDDINGS)) is None


@pytest.mark.parametrize(
    ("endpoint", "body"),
    [
        (Endpoint.RESPONSES, {"model": "auto", "input": "hello", "temperature": 0}),
        (Endpoint.MESSAGES, {**HELLO, "max_tokens": 5}),
    ],
)
def test_other_endpoints_are_not(endpoint: Endpoint, body: dict[str, Any]) -> None:
    assert cacheable(read(body, endpoint)) is Bypass.ENDPOINT


@pytest.mark.parametrize(
    ("lines", "wish"),
    [
        ([], Wish()),
        ([b"no-cache"], Wish(look=False)),
        ([b"No-Store"], Wish(look=False, keep=False)),
        ([b"max-age=60"], Wish(max_age_s=60)),
        ([b'max-age="60"'], Wish(max_age_s=60)),
        ([b"max-age=60, max-age = 5"], Wish(max_age_s=5)),
        ([b"max-age=soon"], Wish(max_age_s=-1)),
        ([b"max-age"], Wish(max_age_s=-1)),
        ([b"max-age=-1"], Wish(max_age_s=-1)),
        ([b"max-age=" + b"9" * 5_000], Wish(max_age_s=-1)),
        ([b"private, x=y,,"], Wish()),
        ([b"max-age=9", b"no-store"], Wish(look=False, keep=False, max_age_s=9)),
        ([b"no-store", b"max-age=9"], Wish(look=False, keep=False, max_age_s=9)),
    ],
)
def test_cache_control(lines: list[bytes], wish: Wish) -> None:
    assert wish_of([(b"accept", b"no-store"), *((b"cache-control", line) for line in lines)]) == wish


@given(st.lists(st.binary(max_size=40), max_size=4))
def test_any_cache_control_is_read_or_passed_over(lines: list[bytes]) -> None:
    wish = wish_of([(b"cache-control", line) for line in lines])
    assert wish.keep or not wish.look
    assert not math.isnan(wish.max_age_s)


def test_scope_is_the_key_unless_shared() -> None:
    one, other = Grant(name="a"), Grant(name="b")
    assert scope_of(CacheSettings(), one) != scope_of(CacheSettings(), other)
    shared = CacheSettings(scope="shared")
    assert scope_of(shared, one) == scope_of(shared, other)
    assert scope_of(shared, one) != scope_of(CacheSettings(), Grant(name="shared"))


def test_key_is_a_digest_and_tells_nothing_of_the_prompt() -> None:
    found = digest(chat())
    assert found is not None
    assert len(found) == 32


def test_order_of_top_level_fields_and_the_name_of_the_model_do_not_matter() -> None:
    turned = read(dict(reversed([*HELLO.items(), ("seed", 1)])))
    assert digest(turned) == digest(chat(seed=1))
    assert digest(chat(model="math")) == digest(chat(model="auto"))


def test_usage_chunk_does_not_matter_because_it_is_asked_for_in_any_case() -> None:
    with_usage = chat(stream=True, stream_options={"include_usage": True})
    assert digest(with_usage) == digest(chat(stream=True))
    assert digest(with_usage) == digest(chat(stream=True, stream_options={"include_usage": False}))
    assert digest(with_usage) == digest(chat(stream_options={"include_usage": True}, stream=True, model="x"))


def test_order_inside_a_schema_matters() -> None:
    def asking(*names: str) -> ApiRequest:
        schema = {"type": "object", "properties": {name: {"type": "string"} for name in names}}
        return chat(response_format={"type": "json_schema", "json_schema": {"name": "s", "schema": schema}})

    assert digest(asking("a", "b")) != digest(asking("b", "a"))


@pytest.mark.parametrize(
    "fields",
    [
        {"stream": True},
        {"seed": 1},
        {"max_tokens": 5},
        {"user": "someone"},
        {"messages": [{"role": "user", "content": "hello "}]},
        {"messages": [{"role": "system", "content": "hello"}]},
        {"temperature": 0.0},
        {"unknown": None},
    ],
)
def test_every_field_matters(fields: dict[str, Any]) -> None:
    assert digest(chat(**fields)) != digest(chat())


def test_everything_around_the_body_matters() -> None:
    rewriting = replace(MATH, rewrite=rewrite_of("Be brief.", None, None))
    keys = [
        digest(chat()),
        digest(chat(), scope=("key", "b")),
        digest(chat(), scope=("shared",)),
        digest(chat(), version="w"),
        digest(chat(), pinned=True),
        digest(chat(), to=expert("coding")),
        digest(chat(), to=replace(MATH, model="m/other")),
        digest(chat(), to=rewriting),
        digest(chat(), to=replace(MATH, rewrite=rewrite_of("Be long.", None, None))),
    ]
    assert len(set(keys)) == len(keys)


def test_endpoints_do_not_share_answers() -> None:
    body = {**HELLO, "prompt": "hello", "input": "hello"}
    keys = {digest(read(body, endpoint)) for endpoint in (Endpoint.CHAT, Endpoint.COMPLETIONS, Endpoint.EMBEDDINGS)}
    assert len(keys) == 3


@given(st.text(max_size=20), st.text(max_size=20), st.text(max_size=20), st.text(max_size=20))
def test_names_and_bodies_cannot_be_shifted_into_each_other(a: str, b: str, c: str, d: str) -> None:
    def of(name: str, text: str) -> bytes | None:
        request = chat()
        request.body["messages"] = [{"role": "user", "content": text}]
        return digest(request, scope=("key", name))

    assert (of(a, b) == of(c, d)) == ((a, b) == (c, d))


def test_long_body_has_no_key() -> None:
    assert digest(chat(messages=[{"role": "user", "content": "x" * MAXIMUM_BODY_BYTES}])) is None


def test_body_is_left_as_it_was() -> None:
    request = chat(stream=True)
    before = orjson.dumps(request.body)
    digest(request)
    assert orjson.dumps(request.body) == before


def test_too_deep_a_body_is_the_clients_mistake() -> None:
    deep: Any = []
    for _ in range(300):
        deep = [deep]
    request = chat()
    request.body["extra"] = deep
    with pytest.raises(InvalidRequest):
        digest(request)
