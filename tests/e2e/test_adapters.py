"""LoRA adapters that come and go on a real vLLM server, and the simulator's word-for-word answers about them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from gateway.adapters import Outcome, denies_model
from gateway.adapters import _outcome as outcome_of
from gateway.sim.bodies import LoraBody, LoraName
from gateway.sim.errors import SimError, unknown_model
from gateway.sim.experts import Roster, SimExpert
from gateway.sim.information import load_adapter, unload_adapter
from gateway.sim.replies import Reply as SimReply

from .cases import CHAT, COMPLETIONS, MESSAGES, RESPONSES, Body
from .processes import VllmServer, gateway
from .wire import Reply, ask

pytestmark = pytest.mark.vllm

LOAD, UNLOAD = "/v1/load_lora_adapter", "/v1/unload_lora_adapter"
LATE, LOST = "late-lora", "lost-lora"


@pytest.fixture(scope="module")
def server(vllm: dict[str, VllmServer]) -> Iterator[str]:
    """The address of the server with adapters; what these tests load is gone afterwards."""
    url = vllm["lora"].url
    yield url
    for name in (LATE, LOST):
        ask(url, UNLOAD, {"lora_name": name})


@pytest.fixture(scope="module")
def adapter_path(server: str) -> str:
    """Where the server finds an adapter: that of one it was started with."""
    cards = ask(server, "/v1/models", method="GET").json()["data"]
    path: str = next(card["root"] for card in cards if card["id"] == "tiny-lora")
    return path


@pytest.fixture(scope="module")
def adapting_gateway(server: str, adapter_path: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A gateway with an expert whose adapter it has to load, and one whose adapter does not exist."""
    late = {"model": LATE, "domains": ["math"], "upstreams": [server], "adapter": {"path": adapter_path}}
    lost = {"model": LOST, "domains": ["law"], "upstreams": [server], "adapter": {"path": "/no/such/adapter"}}
    config = {
        "generalist": {"model": "tiny", "upstreams": [server]},
        "experts": {"math": late, "law": lost},
        "health": {"interval_s": 0.5},
    }
    with gateway(tmp_path_factory.mktemp("adapting-gateway"), config) as url:
        yield url


def listed(url: str) -> set[str]:
    return {card["id"] for card in ask(url, "/v1/models", method="GET").json()["data"]}


def wait_until(true: Callable[[], bool], limit_s: float = 20) -> None:
    ends = time.monotonic() + limit_s
    while not true():
        assert time.monotonic() < ends, "waited in vain"
        time.sleep(0.05)


def say(url: str, model: str, *, stream: bool = False) -> Reply:
    body: Body = {"model": model, "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 5, "stream": stream}
    return ask(url, CHAT, body)


def up(url: str, expert: str) -> bool:
    page = ask(url, "/metrics", method="GET").body.decode()
    return f'pointsman_expert_up{{expert="{expert}"}} 1.0' in page


def test_missing_adapter_is_loaded_and_answers(adapting_gateway: str, server: str) -> None:
    wait_until(lambda: up(adapting_gateway, "math"))
    assert LATE in listed(server)
    reply = say(adapting_gateway, "auto/math")
    assert (reply.status, reply.json()["model"], reply.headers["x-pointsman-expert"]) == (200, LATE, "math")
    assert (
        'pointsman_adapter_loads_total{outcome="loaded"}'
        in ask(adapting_gateway, "/metrics", method="GET").body.decode()
    )


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
def test_adapter_unloaded_under_the_gateway_generalist_answers_until_it_is_back(
    adapting_gateway: str, server: str, stream: bool
) -> None:
    wait_until(lambda: up(adapting_gateway, "math"))
    assert ask(server, UNLOAD, {"lora_name": LATE}).status == 200
    reply = say(adapting_gateway, "auto/math", stream=stream)
    # A probe may have been faster; then the request is not even tried there.
    assert (reply.status, reply.headers["x-pointsman-expert"]) == (200, "generalist")
    wait_until(lambda: up(adapting_gateway, "math"))
    assert LATE in listed(server)


def test_adapter_that_does_not_exist_is_reported_and_the_generalist_answers(adapting_gateway: str) -> None:
    counted = 'pointsman_adapter_loads_total{outcome="not_found"}'
    wait_until(lambda: counted in ask(adapting_gateway, "/metrics", method="GET").body.decode())
    reply = say(adapting_gateway, "auto/law")
    assert (reply.status, reply.json()["model"]) == (200, "tiny")
    assert reply.headers["x-pointsman-reason"] == "adapter_missing"
    pinned = say(adapting_gateway, "law")
    assert (pinned.status, pinned.json()["error"]["code"]) == (503, "upstream_model_missing")


def simulated(call: Callable[[], SimReply]) -> tuple[int, Any]:
    """Status and body of the simulator."""
    try:
        reply = call()
    except SimError as error:
        return error.status, json.loads(error.openai_body)
    assert isinstance(reply.body, bytes)
    return reply.status, reply.body


def seen(reply: Reply) -> tuple[int, Any]:
    return reply.status, reply.body if reply.status == 200 else reply.json()


def test_simulator_answers_about_adapters_as_vllm_does(server: str, adapter_path: str) -> None:
    name = "compared-lora"
    roster = Roster([SimExpert("tiny", aliases=("tiny-alias",))])
    steps: list[tuple[str, Body, Callable[[], SimReply], Outcome | None]] = []

    def load(path: str, outcome: Outcome, **fields: Any) -> None:
        body = {"lora_name": name, "lora_path": path, **fields}
        steps.append((LOAD, body, lambda: load_adapter(LoraBody(**body), roster), outcome))

    def unload() -> None:
        steps.append((UNLOAD, {"lora_name": name}, lambda: unload_adapter(LoraName(lora_name=name), roster), None))

    load("/adapters/missing", Outcome.NOT_FOUND)
    load(adapter_path, Outcome.LOADED)
    load(adapter_path, Outcome.ALREADY_LOADED)
    load(adapter_path, Outcome.LOADED, load_inplace=True)
    unload()
    unload()
    for path, body, simulate, outcome in steps:
        real = ask(server, path, body)
        assert seen(real) == simulated(simulate), body
        assert outcome is None or outcome_of(real.status, real.body) is outcome


@pytest.mark.parametrize("path", [CHAT, COMPLETIONS, RESPONSES, MESSAGES])
def test_unknown_model_is_recognised_on_every_endpoint(server: str, path: str) -> None:
    prompts: dict[str, Body] = {
        COMPLETIONS: {"prompt": "Hello", "max_tokens": 5},
        RESPONSES: {"input": "Hello"},
    }
    asked = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 5}
    real = ask(server, path, {"model": "gone-lora", **prompts.get(path, asked)})
    assert denies_model(real.status, real.body, "gone-lora"), real.body
    expected = unknown_model("gone-lora", ("tiny", "tiny-alias"))
    assert real.body == (expected.messages_body if path == MESSAGES else expected.openai_body)


def test_missing_path_of_a_request_is_no_denial_of_the_model(server: str) -> None:
    real = ask(server, "/v1/embeddings", {"model": "tiny", "input": "Hello"})
    assert real.status == 404
    assert not denies_model(real.status, real.body, "tiny")
