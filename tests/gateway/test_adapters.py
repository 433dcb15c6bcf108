"""Missing LoRA adapters are loaded in the background: once, patiently, and never on a request's path."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.adapters import MOST_DOUBLINGS, AdapterLoader, Outcome, _Tries, denies_model
from gateway.health import UpstreamState
from gateway.metrics import Metrics
from gateway.sim.experts import SimExpert
from gateway.sim.server import SimServer
from gateway.types import Reason
from gateway.upstream import UpstreamClient
from tests.conftest import StartGateway, quick_expert, settings_for
from tests.gateway.test_health import expert_of, fleet_of
from tests.harness import RunningGateway
from tests.waiting import until

pytestmark = pytest.mark.slow

LOAD = "/v1/load_lora_adapter"
PATH = "/adapters/math"


@pytest.fixture
async def bare(sim_server: Any) -> SimServer:
    """A server with a base model, no adapter, and leave to load some."""
    server: SimServer = await sim_server(quick_expert("base"))
    return server


def experts_on(*urls: str, path: str = PATH, load: bool = True, **math: Any) -> dict[str, Any]:
    adapter = {"path": path, "load": load}
    return {
        "generalist": {"model": "base", "upstreams": urls},
        "math": {"model": "math-lora", "upstreams": urls, "domains": ["math"], "adapter": adapter, **math},
    }


class Forgetful(dict[str, SimExpert]):
    """Adapters of a server that keeps none; the simulator's faults change the answer only.

    Args:
        tries: how many it forgets; None: all.
    """

    def __init__(self, tries: int | None = None) -> None:
        super().__init__()
        self.tries = tries

    def __setitem__(self, name: str, expert: SimExpert) -> None:
        if self.tries == 0:
            super().__setitem__(name, expert)
        elif self.tries is not None:
            self.tries -= 1


def calls(server: SimServer) -> list[dict[str, Any]]:
    """The bodies of the calls to load."""
    return [orjson.loads(request.body) for request in server.requests if request.path == LOAD]


async def outcomes(gateway: RunningGateway) -> dict[str, float]:
    series = await gateway.metric("pointsman_adapter_loads_total")
    return {label.split('"')[1]: value for label, value in series.items()}


async def test_missing_adapter_is_loaded_and_then_used(start_gateway: StartGateway, bare: SimServer) -> None:
    gateway = await start_gateway(settings_for(experts_on(bare.url)))
    fleet, math = fleet_of(gateway), expert_of(gateway, "math")
    await until(lambda: fleet.state_of(math) is None)
    assert calls(bare) == [{"lora_name": "math-lora", "lora_path": PATH}]
    assert (await gateway.chat("math")).json()["model"] == "math-lora"
    assert await outcomes(gateway) == {"loaded": 1}


async def test_adapter_that_is_there_is_left_alone(start_gateway: StartGateway, sim_server: Any) -> None:
    server = await sim_server(quick_expert("base", adapters=("math-lora",)))
    gateway = await start_gateway(settings_for(experts_on(server.url), health={"interval_s": 0.02}))
    await asyncio.sleep(0.2)
    assert not calls(server)
    assert await outcomes(gateway) == {}


@pytest.mark.parametrize("experts", [{"load": False}, {"adapter": None}])
async def test_without_leave_nothing_is_loaded(
    start_gateway: StartGateway, bare: SimServer, experts: dict[str, Any]
) -> None:
    gateway = await start_gateway(settings_for(experts_on(bare.url, **experts), health={"interval_s": 0.02}))
    await asyncio.sleep(0.2)
    assert not calls(bare)
    assert fleet_of(gateway).state_of(expert_of(gateway, "math")) is Reason.ADAPTER_MISSING


async def test_server_restarts_and_loses_the_adapter_it_is_loaded_again(
    start_gateway: StartGateway, bare: SimServer
) -> None:
    gateway = await start_gateway(settings_for(experts_on(bare.url), health={"interval_s": 0.05}))
    fleet, math = fleet_of(gateway), expert_of(gateway, "math")
    await until(lambda: fleet.state_of(math) is None)
    bare.refuse(drop=True)
    await until(lambda: fleet.state_of(math) is Reason.UNHEALTHY)
    bare.roster.loaded.clear()
    await bare.accept()
    await until(lambda: len(calls(bare)) == 2 and fleet.state_of(math) is None)


async def test_adapter_unloaded_under_a_request_generalist_answers_and_it_is_loaded_again(
    start_gateway: StartGateway, bare: SimServer
) -> None:
    gateway = await start_gateway(settings_for(experts_on(bare.url), health={"interval_s": 0.3}))
    fleet, math = fleet_of(gateway), expert_of(gateway, "math")
    await until(lambda: fleet.state_of(math) is None)
    bare.roster.loaded.clear()
    reply = await gateway.chat("math")
    assert (reply.status_code, reply.headers["x-pointsman-expert"]) == (200, "generalist")
    await until(lambda: fleet.state_of(math) is None)
    assert len(calls(bare)) == 2


async def test_every_replica_gets_it_each_for_itself(start_gateway: StartGateway, sim_server: Any) -> None:
    first, second = await sim_server(quick_expert("base")), await sim_server(quick_expert("base"))
    second.roster.loaded = Forgetful(tries=1)
    second.fault("status;code=500", count=1, path=LOAD)
    gateway = await start_gateway(settings_for(experts_on(first.url, second.url), health={"interval_s": 0.05}))
    states = fleet_of(gateway).states.values()
    await until(lambda: all(state.has("math-lora") for state in states))
    assert (len(calls(first)), len(calls(second))) == (1, 2)
    assert await outcomes(gateway) == {"loaded": 2, "refused": 1}


async def test_key_of_the_expert_is_sent(
    start_gateway: StartGateway, sim_server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UPSTREAM_KEY", "sesame")
    server = await sim_server(quick_expert("base", api_key="sesame"))
    experts = experts_on(server.url, api_key_env="UPSTREAM_KEY")
    gateway = await start_gateway(settings_for(experts))
    await until(lambda: fleet_of(gateway).state_of(expert_of(gateway, "math")) is None)
    (request,) = [request for request in server.requests if request.path == LOAD]
    assert request.headers["authorization"] == "Bearer sesame"


@pytest.mark.parametrize(
    ("fault", "outcome"),
    [
        ("status;code=500", "refused"),
        ("status;code=400;message=rank 64 is larger than 16", "refused"),
        ("status;code=401", "not_allowed"),
        ("status;code=405", "not_allowed"),
        ("close_rst", "unreachable"),
        ("headers_cut", "unreachable"),
        ("length_larger", "unreachable"),
    ],
)
async def test_failed_load_is_counted_and_tried_again_only_after_a_pause(
    start_gateway: StartGateway, bare: SimServer, fault: str, outcome: str
) -> None:
    bare.roster.loaded = Forgetful()
    bare.fault(fault, count=None, path=LOAD)
    gateway = await start_gateway(settings_for(experts_on(bare.url), health={"interval_s": 0.05}))
    await until(lambda: calls(bare))
    await asyncio.sleep(0.7)
    # Without pauses there would be 14 calls; with them, at 0, 0.1, 0.3 and 0.7 s.
    assert 1 <= len(calls(bare)) <= 4
    counted = await outcomes(gateway)
    assert set(counted) == {outcome}, counted
    assert (await gateway.chat("math")).status_code == 200


async def test_server_that_does_not_load_at_run_time_is_asked_once(
    start_gateway: StartGateway, sim_server: Any
) -> None:
    server = await sim_server(quick_expert("base", runtime_adapters=False))
    gateway = await start_gateway(settings_for(experts_on(server.url), health={"interval_s": 0.02}))
    await until(lambda: calls(server))
    await asyncio.sleep(0.4)
    assert len(calls(server)) == 1
    assert await outcomes(gateway) == {"not_allowed": 1}
    reply = await gateway.chat("math")
    assert (reply.status_code, reply.headers["x-pointsman-reason"]) == (200, "adapter_missing")


async def test_path_that_the_server_does_not_see_is_said_so(start_gateway: StartGateway, bare: SimServer) -> None:
    gateway = await start_gateway(settings_for(experts_on(bare.url, path="/adapters/missing")))
    await until(lambda: calls(bare))
    await until(lambda: not fleet_of(gateway).states[bare.url].has("math-lora"))
    await asyncio.sleep(0.05)
    assert await outcomes(gateway) == {"not_found": 1}


async def test_somebody_else_was_faster_is_no_failure(start_gateway: StartGateway, bare: SimServer) -> None:
    bare.fault("html", count=None, path="/v1/models")
    gateway = await start_gateway(settings_for(experts_on(bare.url), health={"interval_s": 60}))
    fleet, math = fleet_of(gateway), expert_of(gateway, "math")
    loader = AdapterLoader(fleet._loader._client, gateway.app.state.gateway.metrics, 1, 1)
    state = fleet.states[bare.url]
    found = [await loader.load(state, math) for _ in range(2)]
    assert found == [Outcome.LOADED, Outcome.ALREADY_LOADED]


async def test_load_hangs_requests_and_shutdown_do_not(start_gateway: StartGateway, bare: SimServer) -> None:
    bare.fault("hang", count=None, path=LOAD)
    gateway = await start_gateway(settings_for(experts_on(bare.url), health={"interval_s": 0.02}))
    await until(lambda: calls(bare))
    replies = await asyncio.gather(*(gateway.chat("math") for _ in range(10)))
    assert [reply.status_code for reply in replies] == [200] * 10
    await asyncio.sleep(0.2)
    assert len(calls(bare)) == 1, "more than one call to a server at a time"
    assert fleet_of(gateway).states[bare.url].up
    # The fixture's end stops the gateway; that it does not wait for the call is the test's time limit.


async def test_load_that_never_ends_is_given_up(bare: SimServer, start_gateway: StartGateway) -> None:
    math = replace(expert_of(await start_gateway(settings_for(experts_on(bare.url, load=False))), "math"), adapter=PATH)
    bare.fault("hang", count=None, path=LOAD)
    async with UpstreamClient() as client:
        loader = AdapterLoader(client, Metrics(), 1, 1, load_s=0.1)
        outcome = await loader.load(UpstreamState(bare.url), math)
    assert outcome is Outcome.TIMEOUT


async def test_server_that_says_loaded_and_lists_nothing_is_not_hammered(
    start_gateway: StartGateway, bare: SimServer
) -> None:
    math = replace(expert_of(await start_gateway(settings_for(experts_on(bare.url, load=False))), "math"), adapter=PATH)
    state = UpstreamState(bare.url, models=frozenset({"base"}))
    read = 0

    async def reread() -> None:
        nonlocal read
        read += 1

    async with UpstreamClient() as client:
        loader = AdapterLoader(client, Metrics(), 1, 0.05)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.6):
                await loader.tend(state, [math], reread)
    assert 2 <= len(calls(bare)) == read <= 4


async def test_pauses_stay_finite_after_days_of_failures(bare: SimServer, start_gateway: StartGateway) -> None:
    math = replace(expert_of(await start_gateway(settings_for(experts_on(bare.url, load=False))), "math"), adapter=PATH)
    tries = _Tries(failed=MOST_DOUBLINGS)
    async with UpstreamClient() as client:
        loader = AdapterLoader(client, Metrics(), 1, 5)
        state = UpstreamState(bare.url, models=frozenset())
        assert await loader._load_if_due(state, math, tries)
    wait_s = tries.due_s - asyncio.get_running_loop().time()
    assert tries.failed == MOST_DOUBLINGS
    assert 200 < wait_s <= 360


def not_found(message: object, **fields: Any) -> bytes:
    return orjson.dumps({"error": {"message": message, "type": "NotFoundError", "param": None, "code": 404, **fields}})


@pytest.mark.parametrize(
    "body",
    [
        not_found("The model `m` does not exist. Valid aliases: a, b.", param="model"),
        not_found("The model `m` does not exist."),
        not_found("no such thing", code="model_not_found"),
        b'{"type":"error","error":{"type":"NotFoundError","message":"The model `m` does not exist."}}',
    ],
)
def test_denial_of_the_model_is_recognised(body: bytes) -> None:
    assert denies_model(404, body, "m")
    assert not denies_model(400, body, "m")


@pytest.mark.parametrize(
    "body",
    [
        b'{"detail":"Not Found"}',
        b'{"error":"Not Found"}',
        b'{"error":["The model `m` does not exist"]}',
        b"",
        b"[]",
        b"\xff",
        not_found(None),
        not_found("The model `other` does not exist."),
        # What a client wrote must not make an expert look missing.
        not_found("Response with id 'The model `m` does not exist' not found.", param="response_id"),
    ],
)
def test_other_404_is_no_denial(body: bytes) -> None:
    assert not denies_model(404, body, "m")


@given(st.binary(max_size=60), st.text(max_size=10))
def test_any_answer_is_read_without_an_error(body: bytes, model: str) -> None:
    assert denies_model(404, body, model) in (True, False)
    assert denies_model(404, b'{"error":' + body + b"}", model) in (True, False)
