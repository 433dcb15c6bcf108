"""Fixtures that start simulated experts for any test. They start and stop; they assert nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import replace

import pytest

from gateway.sim import SimExpert, SimServer

StartSim = Callable[..., Awaitable[SimServer]]


@pytest.fixture
async def sim_server() -> AsyncIterator[StartSim]:
    """`await sim_server(SimExpert(...), ...)` starts one server with these experts, without any delay.

    Keyword `keep_timing=True` keeps the experts' own timing; others go to `SimServer`. Without experts one called
    `sim` is made. All servers stop at the end of the test.
    """
    async with AsyncExitStack() as stack:

        async def start(*experts: SimExpert, keep_timing: bool = False, **options: object) -> SimServer:
            wanted = experts or (SimExpert("sim"),)
            if not keep_timing:
                wanted = tuple(replace(expert, time_to_first_token_s=0.0, tokens_per_second=0.0) for expert in wanted)
            server = SimServer(*wanted, **options)  # type: ignore[arg-type]  # host, port, idle_timeout_s
            return await stack.enter_async_context(server)

        yield start
