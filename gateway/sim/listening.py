"""Closes a listening socket so that no connection is lost half accepted. It knows nothing of what listens."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

SETTLE_TURNS = 4
"""Turns of the event loop from an accepted connection to its protocol's `connection_made`, and one more."""


def stop_listening(server: asyncio.Server, then: Callable[[], None] | None = None) -> None:
    """Refuse new connections from now on; the socket itself is closed some turns of the event loop later.

    asyncio accepts a connection in one turn and gives it to its server in the next (CPython gh-109564). A server closed
    in between leaves that connection to the garbage collector: open, served by nobody, and a ResourceWarning when and
    where the collector finds it.

    Args:
        server: what `loop.create_server` or `asyncio.start_server` returned.
        then: called when the last connection that was being accepted has its protocol.
    """
    loop = asyncio.get_running_loop()
    if isinstance(loop, asyncio.SelectorEventLoop):  # uvloop accepts in one go
        for listener in server.sockets:
            loop.remove_reader(listener)
            listener.shutdown(socket.SHUT_RDWR)
    else:
        server.close()
    _after(SETTLE_TURNS, server.close)
    if then is not None:
        _after(SETTLE_TURNS, then)


async def settled() -> None:
    """Return when all has happened that `stop_listening` put off."""
    for _ in range(SETTLE_TURNS + 2):
        await asyncio.sleep(0)


def _after(turns: int, call: Callable[[], object]) -> None:
    loop = asyncio.get_running_loop()
    if turns:
        loop.call_soon(_after, turns - 1, call)
    else:
        call()
