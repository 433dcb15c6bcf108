"""Servers and clients of tests on bare sockets that are closed for certain when the test is over.

What asyncio still holds when its loop ends is found by the garbage collector in some later test, which then fails.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

from gateway.sim.listening import settled, stop_listening

Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
FLUSH_S = 1


@asynccontextmanager
async def listening(answer: Answer) -> AsyncIterator[str]:
    """Serve each connection with `answer` on a free port and give its URL; leaving ends what still runs."""
    running: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        running.add(task)
        try:
            await answer(reader, writer)
            await hang_up(writer)
        except asyncio.CancelledError:  # the end of the test: a task of asyncio's own has nobody to tell
            writer.transport.abort()
        finally:
            writer.close()
            running.discard(task)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        stop_listening(server)
        await settled()
        tasks = tuple(running)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await settled()


async def hang_up(writer: asyncio.StreamWriter) -> None:
    """Close a connection and return when it is closed; bytes that nobody takes are thrown away after a second."""
    writer.close()
    with suppress(OSError, TimeoutError):
        async with asyncio.timeout(FLUSH_S):
            await writer.wait_closed()
    writer.transport.abort()
