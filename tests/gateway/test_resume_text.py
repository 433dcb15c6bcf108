"""Two halves of a stream, wherever the first one broke, are one stream."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.answers import Usage
from gateway.errors import UpstreamBadResponse, UpstreamBroke, UpstreamReset, UpstreamTimeout
from gateway.openai import ApiRequest
from gateway.resuming import Resumption
from gateway.streaming import StreamRelay
from gateway.types import Endpoint

BROKE = UpstreamReset("gone")
DEEP = b'data: {"x":' + b"[" * 500 + b"]" * 500 + b"}\n\n"


def resumption(room: int = 1000, **fields: Any) -> Resumption:
    body = {"messages": [{"role": "user", "content": "count"}], "stream": True, **fields}
    return Resumption(ApiRequest(Endpoint.CHAT, body, "auto", stream=True, include_usage=True), room)


def chunk(delta: Any, finish: str | None = None, name: str = "a", **more: Any) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    payload = {"id": name, "object": "chat.completion.chunk", "created": len(name), "choices": [choice], **more}
    return b"data: " + orjson.dumps(payload) + b"\n\n"


def stream_of(words: list[str], name: str) -> bytes:
    usage = {"id": name, "choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": len(words) + 1}}
    tail = chunk({}, "stop", name) + b"data: " + orjson.dumps(usage) + b"\n\ndata: [DONE]\n\n"
    head = chunk({"role": "assistant", "content": ""}, name=name)
    return head + b"".join(chunk({"content": word}, name=name) for word in words) + tail


def payloads(stream: bytes) -> list[Any]:
    lines = [line[6:] for line in stream.split(b"\n") if line.startswith(b"data: ")]
    return [orjson.loads(line) for line in lines if line != b"[DONE]"]


def said(stream: bytes) -> str:
    deltas = [choice["delta"] for payload in payloads(stream) for choice in payload["choices"]]
    return "".join(delta.get("content", "") for delta in deltas)


def relayed(stream: bytes, resuming: Resumption) -> bytes:
    relay = StreamRelay(Endpoint.CHAT, hide_usage=False, event_limit_bytes=1 << 20)
    return resuming.shown(relay.feed(stream))


@given(st.lists(st.text(min_size=1, max_size=6), min_size=1, max_size=8), st.data())
def test_stream_cut_anywhere_goes_on_as_one(words: list[str], data: st.DataObject) -> None:
    whole = stream_of(words, "a")
    cut = data.draw(st.integers(0, len(whole) - len(b"data: [DONE]\n\n")))
    resuming = resumption()
    out = relayed(whole[:cut], resuming)
    finished = b'"finish_reason":"stop"' in out
    assert resuming.may_go_on(BROKE) == (bool(said(out)) and not finished)
    if not resuming.may_go_on(BROKE):
        return
    text = resuming.rest().body["messages"][-1]["content"]
    assert text == said(out)
    resuming.resumed = True
    left = words[len(payloads(out)) - 1 :]  # the first chunk is the role
    out += relayed(stream_of(left, "second"), resuming)
    assert said(out) == "".join(words)
    assert {payload["id"] for payload in payloads(out)} == {"a"}
    assert sum("role" in choice["delta"] for payload in payloads(out) for choice in payload["choices"]) == 1
    assert payloads(out)[-1]["usage"] == {
        "prompt_tokens": max(0, 9 - len(words) + len(left)),
        "completion_tokens": len(left) + 1 + min(9, len(words) - len(left)),
    }


@pytest.mark.parametrize(
    "event",
    [
        chunk({"reasoning": "hm"}),
        chunk({"reasoning_content": "hm"}),
        chunk({"tool_calls": [{"index": 0}]}),
        chunk({"content": "x"}, "length"),
        chunk(None),
        b'data: {"choices":[5]}\n\n',
    ],
)
def test_what_is_more_than_text_is_not_resumed(event: bytes) -> None:
    resuming = resumption()
    stream = chunk({"content": "one"}) + event + chunk({"content": "two"})
    assert resuming.shown(stream) == stream
    assert not resuming.may_go_on(BROKE)


@pytest.mark.parametrize(
    "event", [b": ping\n\n", b"data: {bad\n\n", b'data: {"choices":5}\n\n', b"data: [1]\n\n", DEEP]
)
def test_odd_events_do_not_hinder(event: bytes) -> None:
    resuming = resumption()
    resuming.shown(chunk({"content": "one"}) + event + chunk({"content": "two"}))
    assert resuming.may_go_on(BROKE)
    resuming.resumed = True
    assert resuming.shown(event).endswith(b"\n\n")


def test_only_a_break_is_a_reason() -> None:
    resuming = resumption()
    resuming.shown(chunk({"content": "one"}))
    assert resuming.may_go_on(UpstreamBroke("engine"))
    assert resuming.may_go_on(UpstreamTimeout("idle", code="upstream_idle"))
    assert not resuming.may_go_on(UpstreamTimeout("total"))
    assert not resuming.may_go_on(UpstreamBadResponse("endless"))


@pytest.mark.parametrize(("limit", "left"), [(None, None), (3, 1), ("3", "3"), (2, 0)])
def test_limit_shrinks_by_what_came(limit: Any, left: Any) -> None:
    resuming = resumption(max_tokens=limit)
    resuming.shown(chunk({"content": "one"}) + chunk({"content": " two"}))
    assert resuming.may_go_on(BROKE) == (left != 0)
    assert resuming.rest().body["max_tokens"] == left


def test_text_beyond_its_room_is_dropped() -> None:
    resuming = resumption(room=3)
    resuming.shown(chunk({"content": "one"}))
    assert resuming.may_go_on(BROKE)
    resuming.shown(chunk({"content": "!"}))
    assert not resuming.may_go_on(BROKE)


def test_total_moves_the_text_so_far_from_input_to_output() -> None:
    resuming = resumption()
    resuming.shown(chunk({"content": "one"}) + chunk({"content": " two"}))
    assert resuming.total(Usage(10, 5, 9)) == Usage(8, 7, 8)
    assert resuming.total(Usage(10, None)) == Usage(10, None)
    assert resuming.total(Usage(None, 3)) == Usage(None, 5)
    assert resuming.total(Usage(1, 5)) == Usage(0, 6)
