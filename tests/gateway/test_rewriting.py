"""An expert's own instructions: added to routed chat requests, whoever they end up with, and always told."""

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.rewriting import rewrite_of, rewritten, with_system
from gateway.types import Endpoint
from tests.conftest import Town
from tests.faults.raw import VALID

MATH = {"math": {"rewrite": {"system": "Think in steps.", "prefix": "Problem: ", "suffix": "\nAnswer:"}}}


def messages(town: Town, name: str) -> Any:
    return orjson.loads(town.servers[name].prompts[-1].body)["messages"]


@pytest.mark.parametrize("stream", [False, True])
async def test_routed_request_is_rewritten_and_says_so(start_town: Any, stream: bool) -> None:
    town = await start_town(changes=MATH)
    reply = await town.gateway.chat("some math", stream=stream)
    assert messages(town, "math") == [
        {"role": "system", "content": "Think in steps."},
        {"role": "user", "content": "Problem: some math\nAnswer:"},
    ]
    (record,) = await town.gateway.recorder.wait_for(1)
    assert (record.rewritten, record.rewrite) == (True, reply.headers["x-pointsman-rewrite"])
    assert len(record.rewrite or "") == 12
    # The classifier reads the client's words: the same figures as without.
    assert reply.headers["x-pointsman-confidence"] == "0.9700"


@pytest.mark.parametrize("model", ["math", "sim/math"])
async def test_pinned_request_goes_bare(start_town: Any, model: str) -> None:
    town = await start_town(changes=MATH)
    reply = await town.gateway.chat("some math", model=model)
    assert messages(town, "math") == [{"role": "user", "content": "some math"}]
    assert "x-pointsman-rewrite" not in reply.headers
    (record,) = await town.gateway.recorder.wait_for(1)
    assert (record.rewritten, record.rewrite) == (False, None)


async def test_named_domain_is_routed_and_rewritten(start_town: Any) -> None:
    town = await start_town(changes=MATH)
    await town.gateway.chat("hello", model="auto/math")
    assert messages(town, "math")[0]["content"] == "Think in steps."


async def test_fallback_gets_its_own_or_none(start_town: Any) -> None:
    town = await start_town(changes=MATH)
    town.servers["math"].fault("close_fin", count=None)
    reply = await town.gateway.chat("some math")
    assert messages(town, "generalist") == [{"role": "user", "content": "some math"}]
    assert "x-pointsman-rewrite" not in reply.headers
    own = await start_town(changes={**MATH, "generalist": {"rewrite": {"system": "Be general."}}})
    own.servers["math"].fault("close_fin", count=None)
    reply = await own.gateway.chat("some math")
    assert messages(own, "generalist")[0] == {"role": "system", "content": "Be general."}
    (record,) = await own.gateway.recorder.wait_for(1)
    assert (record.chosen, record.rewrite) == ("generalist", reply.headers["x-pointsman-rewrite"])


@pytest.mark.parametrize("endpoint", [e for e in Endpoint if e not in (Endpoint.CHAT, Endpoint.EMBEDDINGS)])
async def test_other_endpoints_are_not_rewritten(start_town: Any, endpoint: Endpoint) -> None:
    town = await start_town(changes=MATH)
    reply = await town.gateway.http.post(endpoint.path, json=VALID[endpoint])
    assert reply.headers["x-pointsman-expert"] == "math"
    assert b"Think in steps" not in town.servers["math"].prompts[-1].body
    assert "x-pointsman-rewrite" not in reply.headers


async def test_strategy_every_expert_gets_its_own(start_town: Any) -> None:
    changes = {**MATH, "generalist": {"rewrite": {"prefix": "G: "}}}
    town = await start_town(changes=changes, strategies={"default": {"name": "consult", "margin": 1.0}})
    reply = await town.gateway.chat("some math")
    assert messages(town, "math")[0]["content"] == "Think in steps."
    note, user = messages(town, "generalist")
    assert "Think in steps" not in note["content"]
    assert user["content"] == "G: some math"
    (record,) = await town.gateway.recorder.wait_for(1)
    rewrite = rewrite_of(None, "G: ", None)
    assert rewrite is not None
    assert record.rewrite == reply.headers["x-pointsman-rewrite"] == rewrite.digest


def test_instructions_join_the_clients_own() -> None:
    rewrite = rewrite_of("OURS", None, None)
    assert rewrite is not None
    body = {"messages": [{"role": "developer", "content": "THEIRS", "name": "d"}, {"role": "user", "content": "x"}]}
    assert rewritten(body, rewrite)["messages"] == [
        {"role": "developer", "content": "OURS\n\nTHEIRS", "name": "d"},
        {"role": "user", "content": "x"},
    ]
    assert body["messages"][0]["content"] == "THEIRS", "the client's body is left alone"


def test_prefix_and_suffix_go_around_the_last_user_text_only() -> None:
    rewrite = rewrite_of(None, "<", ">")
    assert rewrite is not None
    picture = {"type": "image_url", "image_url": {"url": "data:,"}}
    talk = [
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": "two"},
        {"role": "user", "content": [picture, {"type": "text", "text": "three"}, {"type": "text", "text": "four"}]},
        {"role": "assistant", "content": "five"},
    ]
    out = rewritten({"messages": talk}, rewrite)["messages"]
    assert [out[0], out[1], out[3]] == [talk[0], talk[1], talk[3]]
    assert out[2]["content"] == [picture, {"type": "text", "text": "<three"}, {"type": "text", "text": "four>"}]
    only_picture = [{"role": "user", "content": [picture]}]
    assert rewritten({"messages": only_picture}, rewrite)["messages"][0]["content"][-1]["text"] == "<>"
    nobody = [{"role": "assistant", "content": "x"}]
    assert rewritten({"messages": nobody}, rewrite)["messages"] == nobody


def test_without_texts_there_is_no_rewrite() -> None:
    assert rewrite_of(None, None, None) is None
    assert rewrite_of("", "", "") is None


@given(st.text(), st.text(), st.text())
def test_digest_tells_rewrites_apart(system: str, prefix: str, suffix: str) -> None:
    one, other = rewrite_of(system, prefix, suffix), rewrite_of(system + "x", prefix, suffix)
    assert other is not None
    assert one is None or one.digest != other.digest


@given(
    st.lists(
        st.fixed_dictionaries(
            {
                "role": st.sampled_from(["system", "developer", "user", "assistant"]),
                "content": st.none() | st.text() | st.lists(st.fixed_dictionaries({"type": st.just("text")})),
            }
        ),
        min_size=1,
    ),
    st.booleans(),
)
def test_with_system_any_messages_have_one_more_text_and_nothing_less(talk: list[Any], first: bool) -> None:
    out = with_system(talk, "NOTE", first=first)
    assert "NOTE" in str(out[0]["content"])
    assert out[0]["role"] in ("system", "developer")
    joined = talk[0]["role"] in ("system", "developer")
    assert out[1:] == (talk[1:] if joined else talk)
