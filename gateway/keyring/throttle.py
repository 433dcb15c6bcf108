"""Slows down who tries admin tokens. Knows no token.

A token cannot be guessed, so this bounds noise and work, and holds if somebody sets a weak one. Each address waits
longer after every failure; all addresses together wait a little once there are many failures, except those that have
been let in lately: otherwise anybody could lock the operators out.
"""

from __future__ import annotations

import ipaddress
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

FREE = 5
FIRST_WAIT_S = 1.0
LONGEST_WAIT_S = 900.0
FORGET_S = 3_600.0
GLOBAL_FREE = 50
GLOBAL_PER_S = 1.0
MOST = 10_000


@dataclass(slots=True)
class _Tries:
    failures: int = 0
    wait_until: float = 0.0
    last_at: float = 0.0
    trusted_until: float = 0.0


class LoginThrottle:
    """Says how long an address has to wait. For the event loop only; ask, try and tell without waiting in between.

    The table is bounded: the address unseen for longest goes first. Who has more addresses than it holds is slowed
    down by the common limit.

    Args:
        most: most addresses remembered.
        clock: seconds, never going back.
    """

    def __init__(self, *, most: int = MOST, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = most
        self._clock = clock
        self._tries: OrderedDict[str, _Tries] = OrderedDict()
        # Failures of all that have not drained yet: a bucket that empties by `GLOBAL_PER_S`.
        self._level = 0.0
        self._level_at = clock()

    def __len__(self) -> int:
        return len(self._tries)

    def wait_s(self, address: str) -> float:
        """Return how many seconds this address has to wait before its next try; 0: it may try now."""
        now = self._clock()
        tries = self._tries.get(_group(address), _Tries())
        own = max(0.0, tries.wait_until - now)
        if now < tries.trusted_until:
            return own
        return max(own, (self._drained(now) - GLOBAL_FREE + 1) / GLOBAL_PER_S if self._is_flooded(now) else 0.0)

    def failed(self, address: str) -> None:
        """Count a wrong token."""
        now, tries = self._clock(), self._entry(address)
        if now - tries.last_at > FORGET_S:
            tries.failures = 0
        tries.failures += 1
        tries.last_at = now
        if tries.failures >= FREE:
            tries.wait_until = now + min(LONGEST_WAIT_S, FIRST_WAIT_S * 2.0 ** min(tries.failures - FREE, 30))
        self._level = min(self._drained(now) + 1, 2.0 * GLOBAL_FREE)
        self._level_at = now

    def succeeded(self, address: str) -> None:
        """Forget what went wrong before, and trust the address for a while."""
        now, tries = self._clock(), self._entry(address)
        tries.failures, tries.wait_until, tries.last_at, tries.trusted_until = 0, 0.0, now, now + FORGET_S

    def _entry(self, address: str) -> _Tries:
        group = _group(address)
        tries = self._tries.setdefault(group, _Tries())
        self._tries.move_to_end(group)
        if len(self._tries) > self._most:
            self._tries.popitem(last=False)
        return tries

    def _drained(self, now: float) -> float:
        return max(0.0, self._level - (now - self._level_at) * GLOBAL_PER_S)

    def _is_flooded(self, now: float) -> bool:
        return self._drained(now) >= GLOBAL_FREE


def _group(address: str) -> str:
    """Return what counts as one address: of IPv6 the first 64 bits, which are what one customer gets."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address[:64]
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(ipaddress.IPv6Network((parsed, 64), strict=False))
    return str(parsed)
