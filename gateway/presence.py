"""Finds out what TCP does not say of a client: whether it goes on reading, and whether it is there. Knows no HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from collections.abc import Callable

if sys.platform != "win32":
    import fcntl
    import termios

# A reader that takes less than this within its limit has stopped reading.
LEAST_READ_BYTES = 16 * 1024
# Between looks at a client that has ended its side: a round trip is seldom longer than the first few.
LOOKS_S = (0.03, 0.1, 0.3, 0.7, 1.4, 3.0)


class ReadingWatch:
    """Watches whether a client goes on reading what has been written.

    Args:
        transport: its connection.
        limit_s: how long it may read next to nothing.
        on_stall: called when it does.
    """

    __slots__ = ("_limit_s", "_on_stall", "_timer", "_transport", "_unread_bytes")

    def __init__(self, transport: asyncio.Transport, limit_s: float, on_stall: Callable[[], None]) -> None:
        self._transport = transport
        self._limit_s = limit_s
        self._on_stall = on_stall
        self._timer: asyncio.TimerHandle | None = None
        self._unread_bytes = 0

    def start(self) -> None:
        """Watch from now on; nothing changes when it does already."""
        if self._timer is None:
            self._unread_bytes = _unread(self._transport)
            self._timer = asyncio.get_running_loop().call_later(self._limit_s, self._check)

    def stop(self) -> None:
        """Watch no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _check(self) -> None:
        self._timer = None
        if _unread(self._transport) > self._unread_bytes - LEAST_READ_BYTES:
            self._on_stall()
        else:
            self.start()


def watch_for_reset(transport: asyncio.Transport, looks_s: tuple[float, ...] = LOOKS_S) -> None:
    """Abort the connection when a reset has come back for what was sent last.

    The event loop does not tell: once the client's side has ended, it does not read any more.

    Args:
        transport: the connection.
        looks_s: seconds between one look and the next; the first is now.
    """
    plug = transport.get_extra_info("socket")
    if plug is None or transport.is_closing():
        return
    if plug.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
        transport.abort()
    elif looks_s:
        asyncio.get_running_loop().call_later(looks_s[0], watch_for_reset, transport, looks_s[1:])


def _unread(transport: asyncio.Transport) -> int:
    """Return how many bytes the client has not taken; the kernel's share too, which shrinks in large steps only."""
    queued = bytearray(4)
    plug = transport.get_extra_info("socket")
    if sys.platform != "win32" and plug is not None and plug.fileno() >= 0:
        with contextlib.suppress(OSError):  # not every system knows this of sockets
            fcntl.ioctl(plug.fileno(), termios.TIOCOUTQ, queued)
    return transport.get_write_buffer_size() + int.from_bytes(queued, sys.byteorder)
