"""Remembers the last answered requests by who sent them, so that they can be rated. No prompts, no answers.

Clients choose request ids, so the same id may come again, from other keys too: an entry belongs to a key and an id,
and a key's own last request with an id counts.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple

from gateway.context import RouteRecord


class Remembered(NamedTuple):
    """What a rating needs to know of the request it rates.

    Attributes:
        expert: who answered.
        domain: the domain as decided; None when nothing was scored.
        confidence: its calibrated probability.
        policy: which policy decided, "" when none had to.
        reason: why.
        variant: `live` or `canary`.
        strategy: which strategy made the answer; None when the expert alone did.
        finished_at: when the answer was complete, seconds since the epoch.
    """

    expert: str
    domain: str | None
    confidence: float | None
    policy: str
    reason: str | None
    variant: str
    strategy: str | None
    finished_at: float


class Recent:
    """The last answered requests of this process, in memory.

    Args:
        limit: most entries; the oldest go first.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._entries: OrderedDict[tuple[str, str], Remembered] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def note(self, record: RouteRecord) -> None:
        """Remember a finished request; one that got no whole answer is passed over."""
        if record.chosen is None or record.error is not None or not 200 <= record.status < 300:
            return
        owner = (record.key, record.request_id)
        self._entries.pop(owner, None)
        self._entries[owner] = Remembered(
            expert=record.chosen,
            domain=record.domain,
            confidence=record.confidence,
            policy=record.policy,
            reason=record.reason,
            variant=record.variant,
            strategy=None if (record.strategy_outcome or "").startswith("skipped:") else record.strategy,
            finished_at=record.timestamp.timestamp() + record.duration_s,
        )
        if len(self._entries) > self._limit:
            self._entries.popitem(last=False)

    def find(self, key: str, request_id: str) -> Remembered | None:
        """Return a key's own last request with this id, None when there is none or it is too long ago."""
        return self._entries.get((key, request_id))
