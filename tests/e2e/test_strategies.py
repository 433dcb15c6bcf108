"""Strategies on real vLLM: what clients see is what vLLM sends, log-probabilities and stopped calls leave no trace."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from .cases import CHAT, chat
from .joined import joined
from .lessons import answer
from .normalise import normalise
from .processes import VllmServer, gateway
from .wire import Reply, ask, opened

pytestmark = pytest.mark.vllm

RUNNING = "vllm:num_requests_running"
FREED_S = 1.5
VOTERS = 4
# Every routed request is decided for the expert that was taught; so outcomes hang on the strategies only.
OFFERED: dict[str, dict[str, Any]] = {
    "trusting": {
        "default": {"name": "vote", "samples": VOTERS},
        "per_request": {"cascade": {"threshold": -20}, "vote": {"samples": 3}},
    },
    "doubting": {
        "per_request": {"cascade": {"threshold": 0, "tokens": 4}, "vote": {"samples": 3, "early_stop": False}}
    },
}
streaming = pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])


@pytest.fixture(scope="module")
def gateways(vllm: dict[str, VllmServer], tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Two gateways, by how they judge; the expert `taught` is decided for, the generalist speaks random words."""
    lora = vllm["lora"].url
    base = {
        "generalist": {"model": "tiny-lora", "upstreams": [lora]},
        "experts": {"taught": {"model": "tiny", "domains": ["math"], "upstreams": [lora]}},
        "policy": {"name": "fixed", "expert": "taught"},
    }
    folder = tmp_path_factory.mktemp("strategies")
    with (
        gateway(folder / "trusting", base | {"strategies": OFFERED["trusting"]}) as trusting,
        gateway(folder / "doubting", base | {"strategies": OFFERED["doubting"]}) as doubting,
    ):
        yield {"trusting": trusting, "doubting": doubting}


def asked(url: str, strategy: str, **fields: Any) -> Reply:
    return ask(url, CHAT, chat(**{"model": "auto", **fields}), headers={"x-pointsman-strategy": strategy})


def freed(server: VllmServer) -> None:
    ends = time.monotonic() + FREED_S
    while server.gauge(RUNNING):
        assert time.monotonic() < ends, "requests run on that nobody waits for"
        time.sleep(0.02)


@streaming
def test_cascade_sure_answer_is_vllms_own(gateways: dict[str, str], stream: bool) -> None:
    with_it = asked(gateways["trusting"], "cascade", stream=stream)
    without = asked(gateways["trusting"], "none", stream=stream)
    assert with_it.headers["x-pointsman-strategy"] == "cascade; outcome=accepted; calls=1"
    assert without.status == 200
    if stream:
        assert joined(with_it.body) == joined(without.body)
    else:
        assert normalise(with_it.body) == normalise(without.body)
    assert b'"logprobs":{' not in with_it.body


@streaming
def test_cascade_unsure_answer_gives_way_and_its_generation_ends(
    gateways: dict[str, str], vllm: dict[str, VllmServer], stream: bool
) -> None:
    fields: dict[str, Any] = {"stream": stream, "max_tokens": 24, "ignore_eos": stream}
    reply = asked(gateways["doubting"], "cascade", **fields)
    assert reply.headers["x-pointsman-strategy"] == "cascade; outcome=escalated; calls=2"
    assert reply.headers["x-pointsman-expert"] == "generalist"
    direct = asked(gateways["doubting"], "none", **{**fields, "model": "generalist"})
    if stream:
        assert joined(reply.body) == joined(direct.body)
    else:
        assert reply.json()["choices"] == direct.json()["choices"]
    freed(vllm["lora"])


@pytest.mark.parametrize("which", ["trusting", "doubting"])
@streaming
def test_vote_the_taught_answer_wins(
    gateways: dict[str, str], vllm: dict[str, VllmServer], which: str, stream: bool
) -> None:
    options = {"stream_options": {"include_usage": True}} if stream else {}
    reply = asked(gateways[which], "vote", stream=stream, temperature=0.01, seed=1, **options)
    assert reply.status == 200, reply.body
    assert "outcome=majority" in reply.headers["x-pointsman-strategy"]
    chunks = reply.chunks() if stream else [reply.json()]
    choices = [choice for chunk in chunks for choice in chunk["choices"]]
    said = [(choice["delta"] if stream else choice["message"]).get("content") or "" for choice in choices]
    assert "".join(said) == answer("greeting")
    usage = chunks[-1]["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    freed(vllm["lora"])


def test_vote_client_leaves_all_samples_free_the_engine(gateways: dict[str, str], vllm: dict[str, VllmServer]) -> None:
    server, ends = vllm["lora"], time.monotonic() + 10
    with opened(gateways["trusting"], CHAT, chat(model="auto", ignore_eos=True, max_tokens=1900)):
        while server.gauge(RUNNING) < VOTERS:
            assert time.monotonic() < ends, "the samples do not run side by side"
            time.sleep(0.01)
    freed(server)
