"""Servers as tables show them: how each does now, in this worker, and what all tries came to. Probes nothing."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import blake2b

from gateway.admin.failing import Level, ServerHealth, servers
from gateway.dashboard.live import Figure
from gateway.generation import Generation
from gateway.health import UpstreamState
from gateway.stores.records.counts import TryCount

STATES = {Level.FAILING: "bad", Level.TROUBLED: "warn", Level.OFF: "off", Level.WELL: "good"}


@dataclass(frozen=True, slots=True)
class ServerRow:
    """One server.

    Attributes:
        id: letters and digits that stand for its address in names of elements.
        health: how it is doing, and why.
        state: `health.level` as pages colour it.
        load: open requests, and how many may be open.
        waiting: requests that wait for a place there.
        error: code of the last error in this worker; "" for none.
        error_at: when that was.
        by_probe: whether a check saw it and no request.
        ejections: those that are not forgotten yet.
        upcoming: what comes next and when: a check, a try after an ejection.
        disabled: whether it is switched off.
        tries, failed: of all workers in the page's span of time; None where the store tells nothing.
    """

    id: str
    health: ServerHealth
    state: str
    load: str
    waiting: int
    error: str
    error_at: datetime | None
    by_probe: bool
    ejections: int
    upcoming: str
    disabled: bool
    tries: int | None = None
    failed: int | None = None

    @property
    def failed_share(self) -> float | None:
        """Return which share of the tries failed; None without any."""
        return self.failed / self.tries if self.tries and self.failed is not None else None


def rows(
    generation: Generation, counts: Iterable[TryCount] | None = None, urls: Sequence[str] | None = None
) -> list[ServerRow]:
    """Return servers, the worst first.

    Args:
        generation: whose servers.
        counts: tries of the span of time; None: not known.
        urls: these only; None: all.
    """
    now = time.monotonic()
    sums = None if counts is None else added(counts)
    found = servers(generation.catalog, generation.fleet, now)
    return [_row(one, generation.fleet.states[one.url], now, sums) for one in found if urls is None or one.url in urls]


def added(counts: Iterable[TryCount]) -> dict[str, tuple[int, int]]:
    """Return tries and failed tries by server; what a client left before it was answered is neither."""
    found: dict[str, tuple[int, int]] = {}
    for one in counts:
        tries, failed = found.get(one.upstream, (0, 0))
        found[one.upstream] = (tries + one.is_over * one.count, failed + one.failed * one.count)
    return found


def _row(health: ServerHealth, state: UpstreamState, now: float, sums: dict[str, tuple[int, int]] | None) -> ServerRow:
    error = state.last_error
    tries, failed = (None, None) if sums is None else sums.get(health.url, (0, 0))
    return ServerRow(
        id=blake2b(health.url.encode(), digest_size=6).hexdigest(),
        health=health,
        state=STATES[health.level],
        load=f"{state.inflight} of {state.limiter.limit}",
        waiting=state.limiter.waiting,
        error="" if error is None else error.code,
        error_at=None if error is None else error.at,
        by_probe=error is not None and error.by_probe,
        ejections=state.breaker.ejections,
        upcoming=_upcoming(state, now),
        disabled=state.disabled,
        tries=tries,
        failed=failed,
    )


def _upcoming(state: UpstreamState, now: float) -> str:
    if state.disabled:
        return "nothing until it is switched on"
    if state.breaker.open_until is not None and state.breaker.open_until > now:
        return f"a request tries it in {state.breaker.open_until - now:.0f} s"
    if state.next_probe_at is None:
        return "a check"
    return f"a check in {max(0.0, state.next_probe_at - now):.0f} s"


def figures(found: Iterable[ServerRow]) -> dict[str, Figure]:
    """Return what changes of these rows while a page is open."""
    shown: dict[str, Figure] = {}
    for row in found:
        shown[f"{row.id}-state"] = {"text": row.health.word, "state": row.state}
        shown[f"{row.id}-says"] = row.health.says
        shown[f"{row.id}-load"] = row.load
        shown[f"{row.id}-waiting"] = str(row.waiting)
        shown[f"{row.id}-recent"] = recent(row.health)
        shown[f"{row.id}-error"] = row.error or "none"
        shown[f"{row.id}-upcoming"] = row.upcoming
    return shown


def recent(health: ServerHealth) -> str:
    """Return tries and failures of the last minutes in words."""
    return f"{health.failed} of {health.tries}" if health.tries else "no try"
