"""Where requests spend their time: percentiles of each stage, streams apart, by expert. Times nothing itself.

End to end and first byte have histograms in the rollups, so over time and by expert they are of all requests. The
other stages are only in rows, and whether a request was a stream too: those are of the newest rows of the span.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from gateway.stores.records.columns import Columns, Floats, Mask, newest
from gateway.stores.records.histograms import BUCKETS, DURATION, FIRST_BYTE, Counts, Scale
from gateway.stores.records.queries import Point, Queries
from gateway.stores.records.sums import steps_of

SHARES = (0.5, 0.95, 0.99)
FEW = 20
"""Fewer requests than this give percentiles that say little."""
_COLUMNS = (
    *("stream", "chosen", "cached", "receive_s", "classify_s", "overhead_s", "queue_s", "connect_s"),
    *("time_to_first_byte_s", "duration_s", "output_tokens"),
)


@dataclass(frozen=True, slots=True)
class Percentiles:
    """Of one stage, in seconds; None where nothing was measured.

    Attributes:
        count: requests with a value.
        p50, p95, p99: half, 95 % and 99 % of them took no longer.
    """

    count: int
    p50: float | None
    p95: float | None
    p99: float | None

    @property
    def is_thin(self) -> bool:
        """Whether so few requests say little."""
        return 0 < self.count < FEW


@dataclass(frozen=True, slots=True)
class Stage:
    """A part of a request's time.

    Attributes:
        name: `receive`, `classify`, `overhead`, `queue`, `connect`, `first_byte`, `per_token`, `end_to_end`.
        all: of all requests looked at that have it.
        streams: of streams.
        whole_answers: of the others.
    """

    name: str
    all: Percentiles
    streams: Percentiles
    whole_answers: Percentiles


@dataclass(frozen=True, slots=True)
class ExpertTimes:
    """Times of one expert's answers, of all requests of the span.

    Attributes:
        name: "" where no expert answered.
        first_byte, end_to_end: from the rollups.
        per_token: of streams among the newest rows.
    """

    name: str
    requests: int
    first_byte: Percentiles
    end_to_end: Percentiles
    per_token: Percentiles


@dataclass(frozen=True, slots=True)
class TimePoint:
    """Times of one span; of all its requests, or of one expert's where `name` says so."""

    at_s: int
    name: str
    requests: int
    first_byte: Percentiles
    end_to_end: Percentiles


@dataclass(frozen=True, slots=True)
class LatencyReport:
    """Times of a span.

    Attributes:
        since_s, until_s: seconds since the epoch, widened to whole spans.
        span_s: length of a point.
        points: over time; spans without requests have none.
        expert_points: the same by expert.
        experts: the busiest first.
        stages: in the order of a request's path; of the first ones those that were measured at all.
        looked_at: rows that `stages` are of.
        whole: whether they are all rows of the span.
        oldest_us: when the oldest of them came, microseconds since the epoch.
    """

    since_s: int
    until_s: int
    span_s: int
    points: tuple[TimePoint, ...]
    expert_points: tuple[TimePoint, ...]
    experts: tuple[ExpertTimes, ...]
    stages: tuple[Stage, ...]
    looked_at: int
    whole: bool
    oldest_us: int | None

    def as_json(self) -> dict[str, Any]:
        """Return it ready for JSON."""
        return asdict(self)


def latency_report(queries: Queries, since_s: int, until_s: int) -> LatencyReport:
    """Take the percentiles of a span.

    Args:
        queries: the store's.
        since_s: from when on, seconds since the epoch.
        until_s: before when.

    Raises:
        RecordsUnavailable, QueryTooSlow: see there.
    """
    steps = steps_of(since_s, until_s)
    cells = queries.series(steps.wanted, "chosen", steps.points)
    rows = newest(queries.run, _COLUMNS, steps.since_s * 1_000_000, steps.until_s * 1_000_000)
    by_time = _grouped(cells, lambda cell: steps.start_of(cell.at_s))
    by_both = _grouped(cells, lambda cell: (steps.start_of(cell.at_s), cell.name))
    return LatencyReport(
        since_s=steps.since_s,
        until_s=steps.until_s,
        span_s=steps.step_s,
        points=tuple(_point(at_s, "", mine) for at_s, mine in by_time),
        expert_points=tuple(_point(at_s, name, mine) for (at_s, name), mine in by_both),
        experts=_experts(cells, rows),
        stages=_stages(rows),
        looked_at=len(rows),
        whole=rows.whole,
        oldest_us=rows.oldest_us,
    )


def percentiles(values: Floats) -> Percentiles:
    """Return the percentiles of some values, seconds; what is no number does not count."""
    known = values[np.isfinite(values)]
    if not len(known):
        return Percentiles(0, None, None, None)
    p50, p95, p99 = np.quantile(known, SHARES, method="inverted_cdf").tolist()
    return Percentiles(len(known), p50, p95, p99)


def _of_histogram(scale: Scale, counts: Counts) -> Percentiles:
    count = int(counts[scale.start : scale.start + scale.buckets].sum())
    return Percentiles(count, *(scale.quantile(counts, share) for share in SHARES))


def _grouped(cells: Sequence[Point], key: Callable[[Point], Any]) -> list[tuple[Any, list[Point]]]:
    found: dict[Any, list[Point]] = {}
    for cell in cells:
        found.setdefault(key(cell), []).append(cell)
    return list(found.items())


def _counts(cells: Sequence[Point]) -> tuple[int, Counts]:
    total: npt.NDArray[np.int64] = np.zeros(BUCKETS, np.int64)
    for cell in cells:
        total += cell.counts
    return int(sum(cell.sums["requests"] for cell in cells)), total


def _point(at_s: int, name: str, cells: Sequence[Point]) -> TimePoint:
    requests, counts = _counts(cells)
    return TimePoint(at_s, name, requests, _of_histogram(FIRST_BYTE, counts), _of_histogram(DURATION, counts))


def _experts(cells: Sequence[Point], rows: Columns) -> tuple[ExpertTimes, ...]:
    per_token, chosen = _per_token(rows), np.array(rows.texts("chosen"), dtype=object)
    found = []
    for name, mine in _grouped(cells, lambda cell: cell.name):
        requests, counts = _counts(mine)
        times = (_of_histogram(FIRST_BYTE, counts), _of_histogram(DURATION, counts))
        found.append(ExpertTimes(name, requests, *times, percentiles(per_token[chosen == name])))
    return tuple(sorted(found, key=lambda expert: (-expert.requests, expert.name)))


def _stages(rows: Columns) -> tuple[Stage, ...]:
    streams = rows.floats("stream") == 1
    columns = {
        "receive": rows.floats("receive_s"),
        "classify": rows.floats("classify_s"),
        "overhead": rows.floats("overhead_s"),
        "queue": rows.floats("queue_s"),
        "connect": rows.floats("connect_s"),
        "first_byte": rows.floats("time_to_first_byte_s"),
        "per_token": _per_token(rows),
        "end_to_end": rows.floats("duration_s"),
    }
    stages = [_stage(name, values, streams) for name, values in columns.items()]
    return tuple(stage for stage in stages if stage.all.count or stage.name in _ALWAYS)


_ALWAYS = ("overhead", "first_byte", "per_token", "end_to_end")


def _stage(name: str, values: Floats, streams: Mask) -> Stage:
    return Stage(name, percentiles(values), percentiles(values[streams]), percentiles(values[~streams]))


def _per_token(rows: Columns) -> Floats:
    """Return the seconds between two tokens of streams (n,): of a whole answer nobody can tell.

    The time after the first byte over the tokens after the first one, as vLLM's time per output token.
    """
    tokens = rows.floats("output_tokens")
    after_s = rows.floats("duration_s") - rows.floats("time_to_first_byte_s")
    counts = (rows.floats("stream") == 1) & (rows.floats("cached") != 1) & (tokens > 1) & (after_s >= 0)
    found = np.full(len(rows), np.nan)
    np.divide(after_s, tokens - 1, out=found, where=counts)
    return found
