"""Counts the clients' connections, makes room for new ones, and tells each its limits. Reads and writes no bytes.

A connection waits while it has brought no whole head: idle, or slow on purpose. Those that wait never keep out one that
has something to say: at the cap the one that has waited longest goes (nginx reuses its idle connections like this).
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

# For the classifier, the store, the log, listening sockets and whatever libraries open.
SPARE_FILES = 200
# A request has its client's connection and its expert's.
FILES_PER_CONNECTION = 2


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """What one connection may take.

    Attributes:
        most: connections at once.
        keep_alive_s: silence between requests, and before the first.
        head_s: from a head's first byte to its last.
        rest_s: for a body to end that nobody reads any more.
        write_s: without the client reading anything.
    """

    most: int
    keep_alive_s: float
    head_s: float
    rest_s: float
    write_s: float


class Connection(Protocol):
    """What is known of a connection here."""

    def make_room(self) -> None:
        """Close at once, whatever is under way."""


class Connections:
    """All connections of one server. Belongs to the event loop.

    Args:
        limits: reads the limits in force; called once for every connection.
        on_refusal: told the code of every connection that is turned away or cut; there is no request to record.
    """

    def __init__(self, limits: Callable[[], ConnectionLimits], on_refusal: Callable[[str], None]) -> None:
        self._limits = limits
        self.note_refusal = on_refusal
        self._open: set[Connection] = set()
        self._waiting: dict[Connection, None] = {}  # in the order in which they began to

    def __len__(self) -> int:
        """How many are open."""
        return len(self._open)

    def admit(self, connection: Connection) -> ConnectionLimits | None:
        """Return a new connection's limits, or None: there are too many, and all of them are at work."""
        limits = self._limits()
        if len(self._open) >= limits.most:
            if not self._waiting:
                self.note_refusal("too_many_connections")
                return None
            self.note_refusal("idle_closed")
            oldest = next(iter(self._waiting))
            self.forget(oldest)
            oldest.make_room()
        self._open.add(connection)
        self._waiting[connection] = None
        return limits

    def wait(self, connection: Connection) -> None:
        """Note that a connection waits for a request's head; it may be closed for another."""
        if connection in self._open:
            self._waiting[connection] = None

    def work(self, connection: Connection) -> None:
        """Note that a connection has a request."""
        self._waiting.pop(connection, None)

    def forget(self, connection: Connection) -> None:
        """Note that a connection is gone."""
        self._open.discard(connection)
        self._waiting.pop(connection, None)


def fitting(wanted: int) -> int:
    """Return how many connections this process has files for, `wanted` at most; raises its soft limit first."""
    if sys.platform == "win32":
        return wanted
    import resource  # exists on Unix only

    needed = wanted * FILES_PER_CONNECTION + SPARE_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return wanted
    if soft < needed:
        soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return max(1, min(wanted, (soft - SPARE_FILES) // FILES_PER_CONNECTION))
