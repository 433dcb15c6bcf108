"""Sorts requests by who answered them and how it ended, from sums of rollups. Asks no store.

The kinds are disjoint and their counts add up to all requests. A stream that broke after it had begun counts by its
status, which was 200: rollups know no more of it; the page of health counts such errors from rows.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from enum import StrEnum

from gateway.stores.records.sums import Sum
from gateway.types import GENERALIST


class Kind(StrEnum):
    """What became of a request, in the order in which pages show it."""

    SPECIALIST = "specialist"
    """A specialist answered, at the first try."""
    GENERALIST = "generalist"
    """The generalist answered, at the first try."""
    FALLBACK = "fallback"
    """Somebody answered after a try that failed."""
    REFUSED = "refused"
    """The request's or client's own doing: 4xx, clients that left included."""
    ERROR = "error"
    """The gateway or its experts failed: 5xx."""


def kinds(sums: Iterable[Sum]) -> dict[Kind, float]:
    """Return how many requests there are of each kind.

    Args:
        sums: by `chosen` and `status_class`, in this order.
    """
    found = dict.fromkeys(Kind, 0.0)
    for one in sums:
        for kind, count in _kinds_of(one).items():
            found[kind] += count
    return found


def kinds_over_time(sums: Iterable[Sum]) -> dict[Kind, dict[int, float]]:
    """Return the same by the start of each span of time."""
    found: dict[Kind, dict[int, float]] = {kind: defaultdict(float) for kind in Kind}
    for one in sums:
        for kind, count in _kinds_of(one).items():
            found[kind][one.at_s or 0] += count
    return found


def _kinds_of(one: Sum) -> Mapping[Kind, float]:
    chosen, status_class = one.names
    requests, failovers = one["requests"], one["failovers"]
    if status_class == "5xx":
        return {Kind.ERROR: requests}
    if status_class == "4xx" or not chosen:
        return {Kind.REFUSED: requests}
    first = Kind.GENERALIST if chosen == GENERALIST else Kind.SPECIALIST
    return {first: requests - failovers, Kind.FALLBACK: failovers}


def added(sums: Iterable[Sum], place: int) -> dict[str, Sum]:
    """Add sums up by one of their names.

    Args:
        sums: over the whole time.
        place: which of the names.
    """
    found: dict[str, Sum] = {}
    for one in sums:
        name = one.names[place]
        before = found.get(name)
        total = one.sums if before is None else {key: value + before.sums[key] for key, value in one.sums.items()}
        found[name] = Sum(None, (name,), total)
    return found


def over_time(sums: Iterable[Sum], place: int, what: str = "requests") -> dict[str, dict[int, float]]:
    """Return one sum by a name and the start of its span of time."""
    found: dict[str, dict[int, float]] = defaultdict(lambda: defaultdict(float))
    for one in sums:
        found[one.names[place]][one.at_s or 0] += one[what]
    return {name: dict(values) for name, values in found.items()}


def largest(
    rows: Mapping[str, Mapping[int, float]], most: int, rest: str = "all others"
) -> dict[str, dict[int, float]]:
    """Return the `most` largest rows, the largest first, and one row of all that are left out."""
    order = sorted(rows, key=lambda name: (-sum(rows[name].values()), name))
    kept = order if len(order) <= most else order[: most - 1]
    found = {name: dict(rows[name]) for name in kept}
    others: dict[int, float] = defaultdict(float)
    for name in order[len(kept) :]:
        for at_s, value in rows[name].items():
            others[at_s] += value
    return {**found, rest: dict(others)} if others else found
