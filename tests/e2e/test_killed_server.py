"""A vLLM server that dies in the middle of its answers: nobody gets a silently cut one, and others take over."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import openai
import pytest

from .cases import CHAT, COMPLETIONS, MESSAGES, RESPONSES, Body, chat, completion, message, response
from .lessons import messages
from .processes import VllmServer, gateway, vllm_servers
from .wire import LIMIT_S, Reply, ask, opened

pytestmark = pytest.mark.vllm

ENDLESS: Body = {"ignore_eos": True, "max_tokens": 1900}
STREAMS: dict[str, tuple[str, Body]] = {
    "chat": (CHAT, chat(model="coding", stream=True) | ENDLESS),
    "completions": (COMPLETIONS, completion(model="coding", stream=True) | ENDLESS),
    "responses": (RESPONSES, response(model="coding", stream=True, ignore_eos=True, max_output_tokens=1900)),
    # The Anthropic API has no ignore_eos; the adapter's random words do not end.
    "messages": (MESSAGES, message(model="coding", stream=True, max_tokens=1900)),
}
RUNNING = "vllm:num_requests_running"


@dataclass(frozen=True, slots=True)
class Aftermath:
    """What the clients of the moment got when the server died, and the gateway to ask afterwards."""

    gateway_url: str
    streams: dict[str, bytes]
    pinned: Reply
    routed: Reply
    official: BaseException | None


@pytest.fixture(scope="module")
def killed(
    vllm: dict[str, VllmServer], experts: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Aftermath]:
    """Kill a server of its own while it answers seven clients of a gateway."""
    with ExitStack() as stack:
        doomed = stack.enter_context(vllm_servers(tmp_path_factory.mktemp("doomed"), "lora"))["lora"]
        both = [doomed.url, vllm["lora"].url]
        config = experts | {
            "experts": {
                "coding": {"model": "tiny-lora", "domains": ["coding"], "upstreams": [doomed.url]},
                "law": {"model": "tiny-lora2", "domains": ["law"], "upstreams": both},
            }
        }
        url = stack.enter_context(gateway(tmp_path_factory.mktemp("kill-gateway"), config))
        yield _kill_while_answering(doomed, url)


def _kill_while_answering(doomed: VllmServer, url: str) -> Aftermath:
    with ThreadPoolExecutor(3) as pool, ExitStack() as stack:
        streams = {name: stack.enter_context(opened(url, *request)) for name, request in STREAMS.items()}
        for stream in streams.values():
            stream.read_until(b"data: ")
        pinned = pool.submit(ask, url, CHAT, chat(model="coding") | ENDLESS)
        routed = pool.submit(ask, url, CHAT, chat(model="auto/coding") | ENDLESS | {"max_tokens": 1500})
        official = pool.submit(_official_stream, url)
        while doomed.gauge(RUNNING) < len(streams) + 3:
            assert not pinned.done(), pinned.result()
        doomed.kill()
        received = {name: stream.read_to_end() for name, stream in streams.items()}
        return Aftermath(url, received, pinned.result(), routed.result(), official.result())


def _official_stream(url: str) -> BaseException | None:
    """Read a stream with the official client and return what it raised."""
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=LIMIT_S) as client:
        asked: Any = {"model": "coding", "messages": messages("greeting"), "max_tokens": 1900}
        try:
            for _ in client.chat.completions.create(**asked, stream=True, extra_body={"ignore_eos": True}):
                pass
        except openai.OpenAIError as error:
            return error
    return None


@pytest.mark.parametrize("endpoint", STREAMS)
def test_killed_mid_stream_ends_with_an_error_event(killed: Aftermath, endpoint: str) -> None:
    received = killed.streams[endpoint]
    last = [line for line in received.splitlines() if line.startswith(b"data: ")][-1]
    error = json.loads(last.removeprefix(b"data: "))["error"]
    assert (error["code"], error["type"]) == ("upstream_reset", "server_error")
    for end in (b"[DONE]", b"message_stop", b"response.completed"):
        assert end not in received
    if endpoint in ("responses", "messages"):
        assert b"event: error\n" in received


def test_killed_mid_stream_official_client_raises(killed: Aftermath) -> None:
    assert isinstance(killed.official, openai.APIError)


def test_killed_before_a_plain_answer_pinned_is_told(killed: Aftermath) -> None:
    assert killed.pinned.status in (502, 503)
    assert killed.pinned.json()["error"]["code"] in ("upstream_reset", "upstream_unreachable")
    assert killed.pinned.headers["x-should-retry"] == "false"


def test_killed_before_a_plain_answer_routed_is_answered_by_the_generalist(killed: Aftermath) -> None:
    assert (killed.routed.status, killed.routed.json()["model"]) == (200, "tiny")
    assert killed.routed.headers["x-pointsman-expert"] == "generalist"
    assert int(killed.routed.headers["x-pointsman-fallbacks"]) >= 1


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
def test_after_the_kill_routed_requests_are_answered_by_the_generalist(killed: Aftermath, stream: bool) -> None:
    for _ in range(3):
        reply = ask(killed.gateway_url, CHAT, chat(model="auto/coding", stream=stream))
        assert (reply.status, reply.headers["x-pointsman-expert"]) == (200, "generalist")
        assert b"error" not in reply.body


def test_after_the_kill_the_other_server_of_the_expert_answers(killed: Aftermath) -> None:
    for _ in range(4):
        reply = ask(killed.gateway_url, CHAT, chat(model="law"))
        assert (reply.status, reply.json()["model"]) == (200, "tiny-lora2")
        assert reply.headers["x-pointsman-expert"] == "law"


def test_after_the_kill_pinned_requests_fail_at_once(killed: Aftermath) -> None:
    reply = ask(killed.gateway_url, CHAT, chat(model="coding"))
    assert (reply.status, reply.json()["error"]["code"]) == (503, "upstream_unreachable")
    assert reply.wall_s < 1


def test_after_the_kill_the_gateway_is_ready(killed: Aftermath) -> None:
    assert ask(killed.gateway_url, "/health/ready", method="GET").status == 200
