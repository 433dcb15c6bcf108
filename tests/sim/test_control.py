"""The simulator's own calls: faults, state, requests."""

from __future__ import annotations

from gateway.sim import SimExpert
from gateway.sim.fault_kinds import KINDS
from tests.fixtures_sim import StartSim
from tests.sim.wire import CHAT, chat, get, post


async def test_control_sets_counts_down_and_lifts_faults(sim_server: StartSim) -> None:
    server = await sim_server()
    order = {"fault": "status;code=503;retry_after=2", "count": 2, "match": {"path": CHAT}}
    assert (await post(server, "/sim/faults", order)).status == 200
    assert (await chat(server)).headers["retry-after"] == "2"
    (rule,) = (await get(server, "/sim/state")).json["faults"]
    assert rule == {"fault": "status;code=503;retry_after=2", "count": 1, "path": CHAT, "model": None}
    assert (await get(server, "/sim/faults", "DELETE")).json == {"faults": []}
    assert (await chat(server)).status == 200


async def test_control_null_count_lasts(sim_server: StartSim) -> None:
    server = await sim_server()
    await post(server, "/sim/faults", {"fault": "html", "count": None})
    assert [(await chat(server)).headers["content-type"][:9] for _ in range(3)] == ["text/html"] * 3


async def test_control_refuse_reopens_by_itself(sim_server: StartSim) -> None:
    server = await sim_server()
    assert (await post(server, "/sim/faults", {"fault": "refuse;seconds=0.05"})).status == 200
    assert not server.listening
    await server.until(lambda sim: sim.listening)
    assert (await get(server, "/health")).status == 200


async def test_control_refuses_unknown_faults_fields_and_paths(sim_server: StartSim) -> None:
    server = await sim_server()
    unknown = await post(server, "/sim/faults", {"fault": "nonsense"})
    assert unknown.status == 400
    assert "known: status" in unknown.json["error"]["message"]
    assert (await post(server, "/sim/faults", {"fault": "html", "times": 1})).status == 400
    assert (await get(server, "/sim/nope")).status == 404
    assert (await post(server, "/sim/faults", b"{")).status == 400


async def test_control_shows_requests_as_received(sim_server: StartSim) -> None:
    server = await sim_server()
    await chat(server, max_tokens=1)
    await post(server, CHAT + "?a=b", b"\xff", X_Custom="kept")
    first, second = (await get(server, "/sim/requests")).json
    assert (first["method"], first["path"], first["body_encoding"]) == ("POST", CHAT, "utf-8")
    assert '"max_tokens": 1' in first["body"]
    assert (second["path"], second["body_encoding"]) == (CHAT + "?a=b", "base64")
    assert ["X-Custom", "kept"] in second["headers"]
    assert server.requests[1].headers["x-custom"] == "kept"
    assert server.requests[1].body == b"\xff"


async def test_server_prompts_leave_out_probes(sim_server: StartSim) -> None:
    server = await sim_server()
    await chat(server)
    await get(server, "/health")
    assert [request.path for request in server.prompts] == [CHAT]
    assert server.requests[-1].path == "/health"


async def test_control_state_names_experts_and_counts(sim_server: StartSim) -> None:
    server = await sim_server(SimExpert("a"), SimExpert("b", api_key="k"))
    state = (await get(server, "/sim/state")).json
    assert [expert["model"] for expert in state["experts"]] == ["a", "b"]
    assert (state["url"], state["running"], state["received"]) == (server.url, 0, 0)


async def test_control_explains_every_fault(sim_server: StartSim) -> None:
    known = (await get(await sim_server(), "/sim/faults")).json["known"]
    assert known.keys() == {*KINDS, "refuse"}
    for name, usage in known.items():
        assert usage.startswith(f"`{name}"), name
