"""Says of every server and expert whether it does its work, and if not, why, in a sentence. Asks no store.

It sees what this worker sees; with several workers others may have seen more. Nothing is decided by it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import IntEnum

from gateway.breaker import BreakerState, Why
from gateway.health import Fleet, UpstreamState
from gateway.leases import RECENT_S, LastError
from gateway.types import Catalog, Expert, Reason

LEAST_FAILED = 3
"""Fewer failed tries are no news: a request that is tried again elsewhere costs nobody its answer."""
SOME, MOST = 0.05, 0.5

WHY = {
    Why.LOCAL_FAILURES: "several requests in a row got no connection, no answer in time, or half an answer",
    Why.SERVER_FAILURES: "it answered several requests in a row with errors",
    Why.FAILURE_SHARE: "too many of its requests failed",
    Why.PROBE: "the request that tried it again failed too",
}
STATE = {
    Reason.SATURATED: "All its servers are busy.",
    Reason.ADAPTER_MISSING: "No server of it that is up has its model.",
    Reason.UNHEALTHY: "No server of it takes requests.",
}


class Level(IntEnum):
    """How bad it is, the worst first."""

    FAILING = 0
    """It does not do its work."""
    TROUBLED = 1
    """It does, with failures or delays."""
    OFF = 2
    """An administrator switched it off."""
    WELL = 3

    @property
    def word(self) -> str:
        """Return its name for JSON and style sheets."""
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class ServerHealth:
    """One server.

    Attributes:
        url: its address.
        experts: whose requests it answers.
        level: how it is doing.
        word: the same in a word or two.
        says: a sentence on why; what happens next where it is known.
        tries, failed: of the last `RECENT_S` seconds, in this worker.
    """

    url: str
    experts: tuple[str, ...]
    level: Level
    word: str
    says: str
    tries: int
    failed: int


@dataclass(frozen=True, slots=True)
class ExpertHealth:
    """One expert; `level` and `says` as of a server."""

    name: str
    level: Level
    word: str
    says: str


def servers(catalog: Catalog, fleet: Fleet, now: float | None = None) -> list[ServerHealth]:
    """Return all servers, the worst first.

    Args:
        catalog: the experts.
        fleet: their servers.
        now: by the monotonic clock.
    """
    now = time.monotonic() if now is None else now
    names = {
        url: tuple(e.name for e in catalog.experts.values() if any(u.url == url for u in e.upstreams))
        for url in fleet.states
    }
    found = []
    for url, state in fleet.states.items():
        tries, failed = state.recent.totals(now)
        level, word, says = _judge(state, tries, failed, now)
        found.append(ServerHealth(url, names[url], level, word, says, tries, failed))
    return sorted(found, key=lambda one: (one.level, -one.failed, one.url))


def experts(catalog: Catalog, fleet: Fleet, now: float | None = None) -> list[ExpertHealth]:
    """Return all experts, in the catalog's order."""
    by_url = {one.url: one for one in servers(catalog, fleet, now)}
    return [_expert(expert, fleet, by_url) for expert in catalog.experts.values()]


def headline(found: Sequence[ServerHealth], whole: Sequence[ExpertHealth]) -> str:
    """Return the first thing to know: which server fails, or that none does."""
    failing = [one for one in found if one.level is Level.FAILING]
    troubled = [one for one in found if one.level is Level.TROUBLED]
    if failing:
        others = f" and {len(failing) - 1} more" if len(failing) > 1 else ""
        return f"Failing: {failing[0].url} ({', '.join(failing[0].experts)}){others}."
    lost = [one.name for one in whole if one.level is Level.FAILING]
    if lost:
        return f"No server takes requests for {', '.join(lost)}."
    if troubled:
        others = f" and {len(troubled) - 1} more" if len(troubled) > 1 else ""
        return f"In trouble: {troubled[0].url} ({', '.join(troubled[0].experts)}){others}."
    off = sum(one.level is Level.OFF for one in found)
    if off:
        return f"No server fails; {off} of {len(found)} {'is' if off == 1 else 'are'} switched off."
    return f"All {len(found)} servers are well." if len(found) != 1 else "The server is well."


def _judge(state: UpstreamState, tries: int, failed: int, now: float) -> tuple[Level, str, str]:
    """Return level, word and sentence; the first rule that fits."""
    if state.disabled:
        return Level.OFF, "switched off", "An administrator switched it off. It gets no request."
    if not state.up:
        next_s = None if state.next_probe_at is None else max(0.0, state.next_probe_at - now)
        then = "" if next_s is None else f" The next check is in {next_s:.0f} s."
        return Level.FAILING, "down", f"Its checks or connections fail{_last(state.last_error)}.{then}"
    if state.breaker.open_until is not None:
        return _ejected(state, now)
    if state.missing:
        few = ", ".join(sorted(state.missing)[:3])
        level = Level.FAILING if state.missing == state.expected else Level.TROUBLED
        return level, "model missing", f"It is up and does not list {few}."
    share = failed / tries if tries else 0.0
    if failed >= LEAST_FAILED and share >= SOME:
        level = Level.FAILING if share >= MOST else Level.TROUBLED
        told = f"{failed} of {tries} tries failed in the last {RECENT_S / 60:.0f} minutes{_last(state.last_error)}."
        return level, "failing" if level is Level.FAILING else "errors", told
    return _busy_or_well(state, tries)


def _ejected(state: UpstreamState, now: float) -> tuple[Level, str, str]:
    breaker = state.breaker
    why = WHY[breaker.why] if breaker.why is not None else "it failed"
    if breaker.state is BreakerState.HALF_OPEN:
        return Level.TROUBLED, "being tried", f"It was left alone because {why}. The next request tries it."
    rest_s = max(0.0, (breaker.open_until or now) - now)
    then = f"for another {rest_s:.0f} s" if rest_s else "until a check passes"
    return Level.FAILING, "ejected", f"Left alone {then}, because {why}{_last(state.last_error)}."


def _busy_or_well(state: UpstreamState, tries: int) -> tuple[Level, str, str]:
    if state.breaker.busy_s > 0 or state.limiter.refuses:
        asked = "It asked to be left alone for a moment" if state.breaker.busy_s > 0 else "Its queue is full"
        return Level.TROUBLED, "busy", f"{asked}; other servers and experts are asked first."
    if state.limiter.waiting:
        return Level.TROUBLED, "queueing", f"{state.limiter.waiting} requests wait for a place there."
    if state.share < 1:
        return Level.WELL, "coming back", f"It is back and gets {state.share:.0%} of its usual load, soon all of it."
    if not tries:
        minutes = f"{RECENT_S / 60:.0f}"
        return Level.WELL, "well", f"It passes its checks; no request of the last {minutes} minutes went there."
    return Level.WELL, "well", "It answers."


def _expert(expert: Expert, fleet: Fleet, by_url: dict[str, ServerHealth]) -> ExpertHealth:
    reason = fleet.state_of(expert)
    mine = [by_url[upstream.url] for upstream in expert.upstreams]
    if reason is not None:
        level = Level.TROUBLED if reason is Reason.SATURATED else Level.FAILING
        if all(one.level is Level.OFF for one in mine):
            return ExpertHealth(expert.name, Level.OFF, "switched off", "All its servers are switched off.")
        return ExpertHealth(expert.name, level, "busy" if level is Level.TROUBLED else "failing", STATE[reason])
    bad = [one for one in mine if one.level in (Level.FAILING, Level.TROUBLED)]
    if not bad:
        return ExpertHealth(expert.name, Level.WELL, "well", "It answers.")
    if all(one.level is Level.FAILING for one in mine):
        # They are asked all the same: trying beats refusing, and most of it fails.
        return ExpertHealth(expert.name, Level.FAILING, "failing", bad[0].says)
    says = f"{len(bad)} of {len(mine)} servers: {bad[0].word}." if len(mine) > 1 else bad[0].says
    return ExpertHealth(expert.name, Level.TROUBLED, "in trouble", says)


def _last(error: LastError | None) -> str:
    if error is None:
        return ""
    ago_s = max(0.0, (datetime.now(UTC) - error.at).total_seconds())
    return f"; the last error, {_ago(ago_s)}, was {error.code}"


def _ago(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s ago"
    return f"{seconds / 60:.0f} min ago" if seconds < 7_200 else f"{seconds / 3_600:.0f} h ago"
