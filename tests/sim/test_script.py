"""What simulated experts say when told to: answers in turn, by choice and by seed; a log-probability of one's own."""

from typing import Any

from gateway.sim import SimExpert, SimServer
from tests.fixtures_sim import StartSim
from tests.sim.wire import chat


async def said(server: SimServer, **fields: Any) -> list[str]:
    return [choice["message"]["content"] for choice in (await chat(server, **fields)).json["choices"]]


async def test_say_answers_in_the_order_of_arrival_then_as_ever(sim_server: StartSim) -> None:
    server = await sim_server()
    server.say("one", "two")
    assert [await said(server), await said(server)] == [["one"], ["two"]]
    assert "simulated answer" in (await said(server))[0]


async def test_sim_answer_of_a_list_each_choice_and_seed_has_its_own(sim_server: StartSim) -> None:
    server = await sim_server()
    assert await said(server, sim_answer="four") == ["four"]
    assert await said(server, sim_answer=["a", "b", "c"], n=4, temperature=1) == ["a", "b", "c", "a"]
    assert await said(server, sim_answer=["a", "b", "c"], seed=5) == ["c"]


async def test_sim_logprob_wins_over_the_experts(sim_server: StartSim) -> None:
    server = await sim_server(SimExpert("sim", logprob=-0.1))
    given: list[tuple[dict[str, Any], float, float]] = [({}, -0.2, 0.0), ({"sim_logprob": -3}, -3.1, -2.9)]
    for fields, low, high in given:
        reply = await chat(server, logprobs=True, **fields)
        entries = reply.json["choices"][0]["logprobs"]["content"]
        assert all(low <= entry["logprob"] <= high for entry in entries)
