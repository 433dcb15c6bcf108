"""Streams as they flow: not buffered, side by side, and the engine freed at once when the client leaves."""

from __future__ import annotations

import re
import time
from typing import Any

import pytest

from .cases import CHAT, COMPLETIONS, MESSAGES, RESPONSES, Body, chat, completion, message, response
from .lessons import answer
from .processes import VllmServer
from .wire import opened

pytestmark = pytest.mark.vllm

RUNNING, FINISHED = "vllm:num_requests_running", "vllm:request_success_total"
FREED_S = 1.5
_CONTENT = re.compile(rb'"content":"([^"]*)"')
ENDLESS: dict[str, tuple[str, Body]] = {
    "chat": (CHAT, chat(ignore_eos=True, max_tokens=2000)),
    "completions": (COMPLETIONS, completion(ignore_eos=True, max_tokens=2000)),
    "responses": (RESPONSES, response(ignore_eos=True, max_output_tokens=2000)),
    # The Anthropic API has no ignore_eos; the adapter's random words do not end.
    "messages": (MESSAGES, message(model="tiny-lora", max_tokens=2000)),
}


def _wait_running(server: VllmServer, count: int, limit_s: float = 10.0) -> float:
    """Wait until so many requests run; return how long it took."""
    started = time.monotonic()
    while server.gauge(RUNNING) != count:
        assert time.monotonic() - started < limit_s, f"{server.gauge(RUNNING)} requests run, not {count}"
        time.sleep(0.01)
    return time.monotonic() - started


@pytest.mark.parametrize("leave", ["close", "reset"])
@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
@pytest.mark.parametrize("endpoint", ENDLESS)
def test_client_leaves_engine_is_free_at_once(
    gateway_url: str, vllm: dict[str, VllmServer], endpoint: str, stream: bool, leave: str
) -> None:
    server = vllm["lora"]
    path, body = ENDLESS[endpoint]
    _wait_running(server, 0)
    finished = server.gauge(FINISHED)
    with opened(gateway_url, path, body | {"stream": stream}) as request:
        if stream:
            request.read_until(b"data: ")
        _wait_running(server, 1)
        getattr(request, leave)()
        assert _wait_running(server, 0) < FREED_S
    assert server.gauge(FINISHED) == finished, "it was too short to prove anything"


def test_stream_first_piece_arrives_while_the_engine_still_works(gateway_url: str, vllm: dict[str, VllmServer]) -> None:
    path, body = ENDLESS["chat"]
    with opened(gateway_url, path, body | {"stream": True}) as request:
        request.read_until(b'"content":"G')
        assert vllm["lora"].gauge(RUNNING) == 1
        pieces = request.received.count(b"data: ")
        assert pieces < 200
    _wait_running(vllm["lora"], 0)


def test_streams_side_by_side_neither_waits_nor_mixes(gateway_url: str, vllm: dict[str, VllmServer]) -> None:
    _wait_running(vllm["lora"], 0)
    long: Any = chat("counting", ignore_eos=True, max_tokens=1500, stream=True)
    short: Any = chat("capital", stream=True)
    with opened(gateway_url, CHAT, long) as first, opened(gateway_url, CHAT, short) as second:
        first.read_until(b"data: ")
        second.read_until(b"data: [DONE]")
        assert vllm["lora"].gauge(RUNNING) == 1, "the long one has ended before the short one"
        assert b"".join(_CONTENT.findall(second.received)).decode() == answer("capital")
        first.read_until(b"data: [DONE]")
    assert first.received.count(b'"finish_reason":"length"') == 1
    assert second.received.count(b'"finish_reason":"stop"') == 1
