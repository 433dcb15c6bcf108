"""Many strategies at once and clients that leave at any moment: nothing is left running, and each has one record."""

import asyncio
import random
from typing import Any

from gateway.sim import SimExpert
from gateway.types import Endpoint
from tests.conftest import settings_for
from tests.faults.raw import Connection, body_of, request

STRATEGIES = {
    "domains": {
        "math": {"name": "vote", "samples": 4},
        "coding": {"name": "cascade", "tokens": 8, "threshold": -1.0},
        "general": {"name": "consult", "margin": 1.0, "floor": 0.0, "deadline_s": 0.05},
    }
}
CLIENTS = 60


async def test_clients_leave_at_any_moment_nothing_is_left_running(sim_server: Any, start_gateway: Any) -> None:
    servers, experts = [], {}
    for name in ("generalist", "math", "coding"):
        expert = SimExpert(f"sim/{name}", name, time_to_first_token_s=0.01, tokens_per_second=1500)
        servers.append(await sim_server(expert, keep_timing=True))
        domains = {} if name == "generalist" else {"domains": [name]}
        experts[name] = {"model": f"sim/{name}", "upstreams": [servers[-1].url], **domains}
    gateway = await start_gateway(settings_for(experts, strategies=STRATEGIES))
    dice = random.Random(7)

    async def visit() -> None:
        text, how = dice.choice(["math", "coding", "hello"]), dice.choice([-0.1, -4.0])
        messages = [{"role": "user", "content": text}]
        body = body_of(Endpoint.CHAT, messages=messages, stream=dice.random() < 0.5, sim_logprob=how)
        stays_s, leaves = dice.random() * 0.15, dice.random() < 0.7
        async with Connection(gateway.url) as client:
            await client.send(request(body, version="1.0"))
            if leaves:
                await asyncio.sleep(stays_s)
                client.leave(reset=dice.random() < 0.5)
            else:
                assert b" 200 OK" in await client.reader.read()

    await asyncio.gather(*(visit() for _ in range(CLIENTS)))
    records = await gateway.recorder.wait_for(CLIENTS)
    assert len(records) == CLIENTS
    assert {(record.status, record.error) for record in records} <= {
        (200, None),
        (499, "client_left"),
        (200, "client_left"),
    }
    for server in servers:
        await server.until(lambda server: server.running == 0, timeout_s=2)
    assert set((await gateway.metric("pointsman_upstream_inflight")).values()) == {0.0}
    left = {task.get_coro().__qualname__ for task in asyncio.all_tasks()}  # type: ignore[union-attr]  # all are coroutines
    assert not {name for name in left if "_Voting" in name or "InferenceEndpoint" in name}
