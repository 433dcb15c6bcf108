"""Medians, spreads and paired comparisons of the rows of a run. Reads no file and writes no table."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import cases
from measure import Row

DIRECT, FLOOR = "direct", "relay"
Value = Callable[[Row], float]


@dataclass(frozen=True, slots=True)
class Spread:
    """Median and range over the rounds; NaN of nothing."""

    median: float
    low: float
    high: float

    @property
    def inconclusive(self) -> bool:
        """Whether a ratio's range holds 1: in some round each of the two was ahead."""
        return self.low <= 1 <= self.high


def spread(values: Iterable[float]) -> Spread:
    """Return the spread of the finite values."""
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        return Spread(math.nan, math.nan, math.nan)
    return Spread(statistics.median(finite), min(finite), max(finite))


class Results:
    """All rows of a run, asked for by case and arm."""

    def __init__(self, rows: list[Row]) -> None:
        self._rows = rows
        self.arms = list(dict.fromkeys(row.arm for row in rows))

    def rows(self, case: str, arm: str) -> list[Row]:
        """Return them in the order of their rounds."""
        return [row for row in self._rows if (row.case, row.arm) == (case, arm)]

    def errors(self, case: str, arm: str) -> int:
        """Return how many requests failed, over all rounds."""
        return sum(row.load.errors for row in self.rows(case, arm))

    def of(self, case: str, arm: str, value: Value) -> Spread:
        """Return the spread of a value over the rounds; of nothing where there were errors."""
        return spread(self._clean(case, arm, value).values())

    def ratio(self, case: str, arm: str, value: Value, base: str = FLOOR) -> Spread:
        """Return the spread of the ratios to another arm, each within one round."""
        return spread(ours / theirs for ours, theirs in self._pairs(case, arm, value, base) if theirs)

    def added(self, case: str, arm: str, value: Value, base: str = DIRECT) -> Spread:
        """Return the spread of the differences to another arm, each within one round."""
        return spread(ours - theirs for ours, theirs in self._pairs(case, arm, value, base))

    def per_chunk(self, arm: str) -> dict[int, float]:
        """Return microseconds of CPU per content chunk by round: what long streams cost above short ones."""
        short, long = (self._clean(case.name, arm, cpu) for case in cases.STREAMED)
        more = cases.LONG.chunks - cases.SHORT.chunks
        return {turn: (long[turn] - short[turn]) / more for turn in long if turn in short}

    def _pairs(self, case: str, arm: str, value: Value, base: str) -> list[tuple[float, float]]:
        ours, theirs = self._clean(case, arm, value), self._clean(case, base, value)
        return [(ours[turn], theirs[turn]) for turn in ours if turn in theirs]

    def _clean(self, case: str, arm: str, value: Value) -> dict[int, float]:
        if self.errors(case, arm):
            return {}
        return {row.turn: value(row) for row in self.rows(case, arm)}


def cpu(row: Row) -> float:
    """Return microseconds of CPU per answer."""
    return row.cpu_us


def rate(row: Row) -> float:
    """Return answers per second."""
    return row.load.per_s


def p50(row: Row) -> float:
    """Return the median latency in milliseconds."""
    return row.load.p50_ms


def p99(row: Row) -> float:
    """Return the 99th percentile of the latency in milliseconds."""
    return row.load.p99_ms


def first_p50(row: Row) -> float:
    """Return the median time to first token in milliseconds."""
    return row.load.first_p50_ms


def first_p99(row: Row) -> float:
    """Return the 99th percentile of the time to first token in milliseconds."""
    return row.load.first_p99_ms


def cores(row: Row) -> float:
    """Return how many cores the arm used."""
    return row.cpu_us * row.load.per_s / 1e6


def rss(row: Row) -> float:
    """Return resident memory at the end in MiB."""
    return row.rss_mib


def growth(row: Row) -> float:
    """Return MiB gained per 10,000 answers."""
    return row.growth_mib
