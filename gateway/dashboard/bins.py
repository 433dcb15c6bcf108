"""The equal parts of a span of time that a chart is made of, some sixty at most. Asks no store.

Rollups are of minutes, hours and days; a part is one of those or several of them, so that a chart has few points and
its table few rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from gateway.dashboard.links import Links
from gateway.dashboard.spans import Span
from gateway.stores.records.histograms import BUCKETS, Counts, Scale
from gateway.stores.records.queries import Point, RollupFilter, span_of

MOST = 61
POINTS = 200
"""What rollups are read with: a week by the hour, a month by the day."""


@dataclass(frozen=True, slots=True)
class Bins:
    """Parts of a span.

    Attributes:
        span: the span that is shown, widened to whole parts at its start; sums and links are of all of it.
        part_s: length of a part, seconds.
    """

    span: Span
    part_s: int

    @property
    def starts(self) -> list[int]:
        """Return when each part starts, seconds since the epoch."""
        return list(range(self.span.since_s, self.span.until_s, self.part_s))

    @property
    def x(self) -> list[float]:
        """Return the same for a chart."""
        return [float(start) for start in self.starts]

    def wanted(self, **equal: str | None) -> RollupFilter:
        """Return the filter of rollups in the span."""
        return self.span.rollups(**equal)

    def start_of(self, at_s: int) -> int:
        """Return when the part starts that a time is in."""
        return at_s // self.part_s * self.part_s

    def row(self, found: Mapping[int, float], missing: float | None = 0.0) -> list[float | None]:
        """Return one value for each part, added up of values by the start of their rollup.

        Args:
            found: values by start.
            missing: what parts without a value get.
        """
        sums: dict[int, float] = {}
        for at_s, value in found.items():
            start = self.start_of(at_s)
            sums[start] = sums.get(start, 0.0) + value
        return [sums.get(start, missing) for start in self.starts]

    def quantiles(self, points: Iterable[Point], scale: Scale, share: float) -> list[float | None]:
        """Return a quantile for each part, from histograms over time; None where nothing was counted."""
        counts = self._counts(points)
        return [None if start not in counts else scale.quantile(counts[start], share) for start in self.starts]

    def links(self, links: Links, **filters: object) -> list[str]:
        """Return where each part's number leads: the requests behind it."""
        return [
            links.requests(Span(self.span.name, start, min(start + self.part_s, self.span.until_s)), **filters)
            for start in self.starts
        ]

    def _counts(self, points: Iterable[Point]) -> dict[int, Counts]:
        counts: dict[int, Counts] = {}
        for point in points:
            start = self.start_of(point.at_s)
            before = counts.get(start)
            counts[start] = point.counts if before is None else before + point.counts
        return counts


def bins(span: Span) -> Bins:
    """Return the parts of a span."""
    base_s = span_of(span.rollups(), POINTS)
    part_s = base_s * max(1, -(-span.length_s // (base_s * (MOST - 1))))
    return Bins(Span(span.name, span.since_s // part_s * part_s, span.until_s), part_s)


def whole(points: Iterable[Point], scale: Scale, share: float) -> float | None:
    """Return a quantile of all points together; None: nothing was counted."""
    total: Counts | None = None
    for point in points:
        total = point.counts if total is None else total + point.counts
    assert total is None or len(total) == BUCKETS
    return None if total is None else scale.quantile(total, share)
