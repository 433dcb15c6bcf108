"""Puts an expert's servers into the order in which they are asked. Knows no expert and excludes nobody.

Load decides by the power of two choices: of two servers at random the one with fewer requests, which keeps many
gateways that know the same from all choosing the same server. A conversation has a favourite server, the same in all
gateways, where its prefix is cached; when that has too much to do, the conversation's next favourite gets it, so that
even a hot prefix lies in few caches.

Source: Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing" (2001); rendezvous hashing, Thaler and
Ravishankar (1998); bounded loads, Mirrokni et al., arXiv:1608.01350.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from hashlib import blake2b
from random import Random
from typing import Protocol, TypeVar

from gateway.load import Load
from gateway.settings.reliability import BalancingSettings


class Server(Protocol):
    """What is known of a server."""

    @property
    def url(self) -> str:
        """Its address."""

    @property
    def inflight(self) -> int:
        """Our requests open there."""

    @property
    def share(self) -> float:
        """Share of its usual load that it should get, above 0 and up to 1."""

    @property
    def load(self) -> Load:
        """What it last said of itself."""


S = TypeVar("S", bound=Server)


class Spread:
    """Orders servers.

    Args:
        settings: the section `balancing`.
        random: draws the two; a test gives it a seed.
        clock: seconds, monotonic; the same that `Load.told_at` is measured by.
    """

    def __init__(
        self, settings: BalancingSettings, random: Random, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._settings = settings
        self._random = random
        self._clock = clock

    def order(self, servers: Sequence[S], rank: Callable[[S], int], key: bytes | None = None) -> list[S]:
        """Return all servers, whom to ask first first.

        Args:
            servers: the expert's.
            rank: how willingly each is asked, lower ranks first; within a rank load and affinity decide.
            key: what the request shares with others, so that a server may have it cached; None: nothing.
        """
        if len(servers) == 1:
            return list(servers)
        ranks: dict[int, list[S]] = {}
        for server in servers:
            ranks.setdefault(rank(server), []).append(server)
        return [server for level in sorted(ranks) for server in self._order_equals(ranks[level], key)]

    def _order_equals(self, servers: list[S], key: bytes | None) -> list[S]:
        if len(servers) == 1:
            return servers
        now = self._clock()
        self._random.shuffle(servers)
        first = self._favourite(servers, key, now)
        if first is None:
            first = min(servers[:2], key=lambda server: self._weighed(server, now))
        others = [server for server in servers if server is not first]
        return [first, *sorted(others, key=lambda server: self._weighed(server, now))]

    def _favourite(self, servers: list[S], key: bytes | None, now: float) -> S | None:
        if key is None or not self._settings.affinity:
            return None
        total = sum(self._requests(server, now) for server in servers) + 1
        most = max(self._settings.affinity_slack, (1 + self._settings.affinity_excess) * total / len(servers))
        free = [server for server in servers if self._requests(server, now) + 1 <= most * server.share]
        return max(free, key=lambda server: _score(key, server.url), default=None)

    def _weighed(self, server: Server, now: float) -> float:
        """Return the load to compare; that of a server that comes back looks larger than it is."""
        usage = server.load.usage if self._fresh(server, now) else 0.0
        return (self._requests(server, now) + usage + 1) / server.share

    def _requests(self, server: Server, now: float) -> float:
        return server.inflight + (server.load.waiting if self._fresh(server, now) else 0.0)

    def _fresh(self, server: Server, now: float) -> bool:
        return now - server.load.told_at <= self._settings.load_fresh_s


def _score(key: bytes, url: str) -> bytes:
    return blake2b(key + b"\0" + url.encode(), digest_size=8).digest()
