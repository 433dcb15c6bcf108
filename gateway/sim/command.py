"""Running simulated servers from the command line: listen, say where, stop cleanly. Parsing options is the CLI's."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack

import typer
import uvloop

from gateway.sim.server import SimServer


def run(servers: Sequence[SimServer]) -> None:
    """Serve until SIGINT or SIGTERM, printing one line per listening server.

    Raises:
        OSError: a port is taken.
    """
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve_forever(*servers, announce=_announce))


async def serve_forever(*servers: SimServer, announce: Callable[[SimServer], None] = lambda server: None) -> None:
    """Serve until SIGINT or SIGTERM, all servers in this process.

    Args:
        servers: Not yet started.
        announce: Called with each server once it listens.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    try:
        async with AsyncExitStack() as stack:
            for server in servers:
                await stack.enter_async_context(server)
                announce(server)
            await stop.wait()
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)


def _announce(server: SimServer) -> None:
    names = ", ".join(f"{expert.model} ({expert.domain})" for expert in server.roster.experts)
    typer.echo(f"simulated vLLM on {server.url}: {names}")
