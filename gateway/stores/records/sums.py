"""Sums of rollups without their histograms, added up by the database: a month by domain and expert is a few rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gateway.stores.records.contract import Run
from gateway.stores.records.queries import Dimension, RollupFilter, span_of
from gateway.stores.records.tables import DIMENSIONS, SUMS

MOST_GROUPS = 20_000
POINTS = 200
DRAWN = 90
"""Points that a chart has at most: more are not told apart, and make a page heavy."""
_FACTORS = (1, 2, 3, 4, 6, 8, 12, 24)


@dataclass(frozen=True, slots=True)
class Sum:
    """Requests alike, summed up.

    Attributes:
        at_s: start of the span; None where sums are over the whole time.
        names: the values of the dimensions that were asked for, in their order; "" where requests have none.
        sums: by the names of `tables.SUMS`.
    """

    at_s: int | None
    names: tuple[str, ...]
    sums: dict[str, float]

    def __getitem__(self, name: str) -> float:
        return self.sums[name]


@dataclass(frozen=True, slots=True)
class Steps:
    """A span of time in steps that are whole rollups.

    Attributes:
        since_s, until_s: bounds at whole steps, seconds since the epoch.
        step_s: length of a step, a multiple of `span_s`.
        span_s: length of the rollups.
    """

    since_s: int
    until_s: int
    step_s: int
    span_s: int

    @property
    def wanted(self) -> RollupFilter:
        """Return the filter of its rollups."""
        return RollupFilter(self.since_s, self.until_s)

    @property
    def points(self) -> int:
        """Return how many rollups it is long, so that no coarser ones are taken."""
        return max(1, (self.until_s - self.since_s) // self.span_s)

    def start_of(self, at_s: int) -> int:
        """Return the start of the step that a moment is in."""
        return at_s // self.step_s * self.step_s


def steps_of(since_s: int, until_s: int, points: int = POINTS, drawn: int = DRAWN) -> Steps:
    """Cut a span into at most `drawn` steps (one or two more at its ends), of rollups that are at most `points`."""
    span_s = span_of(RollupFilter(since_s, until_s), points)
    fitting = (span_s * factor for factor in _FACTORS if until_s - since_s <= span_s * factor * drawn)
    step_s = next(fitting, span_s * _FACTORS[-1])
    return Steps(since_s // step_s * step_s, -(-until_s // step_s) * step_s, step_s, span_s)


def sums(
    run: Run, wanted: RollupFilter, by: Sequence[Dimension] = (), *, over_time: bool = False, points: int = POINTS
) -> list[Sum]:
    """Return sums of a span, in ascending order of time and names.

    Args:
        run: the store's (`Queries.run`).
        wanted: bounds, widened to whole spans of `span_of(wanted, points)`, and values that have to be equal.
        by: one sum for each combination of these dimensions' values.
        over_time: one for each span, too.
        points: most spans.

    Raises:
        RecordsUnavailable, QueryTooSlow: see there.
    """
    span_s = span_of(wanted, points)
    groups = [*(("at_s",) if over_time else ()), *(name for name in by if name in DIMENSIONS)]
    equal = [(name, getattr(wanted, name)) for name in DIMENSIONS if getattr(wanted, name) is not None]
    conditions = "".join(f" AND {name} = ?" for name, _ in equal)
    rows = run(
        f"SELECT {', '.join([*groups, *(f'SUM({name})' for name in SUMS)])} FROM rollup "
        f"WHERE span_s = ? AND at_s >= ? AND at_s < ?{conditions}"
        + (f" GROUP BY {', '.join(groups)}" if groups else "")
        + " LIMIT ?",
        [span_s, wanted.since_s // span_s * span_s, wanted.until_s, *(value for _, value in equal), MOST_GROUPS],
    )
    found = [_sum(row, len(groups), over_time=over_time) for row in rows if row[-1] is not None]
    return sorted(found, key=lambda one: (one.at_s or 0, one.names))


def _sum(row: Sequence[object], groups: int, *, over_time: bool) -> Sum:
    names = tuple(str(value) for value in row[over_time:groups])
    # PostgreSQL sums whole numbers up to decimals.
    values = [float(str(value)) for value in row[groups:]]
    return Sum(int(str(row[0])) if over_time else None, names, dict(zip(SUMS, values, strict=True)))
