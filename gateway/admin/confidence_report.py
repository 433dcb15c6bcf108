"""How sure the classifier is, by domain, and what other thresholds would have done. Decides nothing that counts.

Histograms are of all requests of the span, from rollups; what-if is of its newest requests, from rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

from gateway.admin.choices import COLUMNS
from gateway.admin.what_if import Curve, compare, curve
from gateway.stores.records.columns import MOST_ROWS, newest
from gateway.stores.records.histograms import CONFIDENCE, MARGIN, part
from gateway.stores.records.queries import Point, Queries, RollupFilter, span_of
from gateway.types import Catalog
from router import Thresholds

POINTS = 200
"""Most spans of rollups to read: a month is read by the day."""


@dataclass(frozen=True, slots=True)
class DomainConfidence:
    """The scored requests of one domain.

    Attributes:
        domain: the best one of each of these requests.
        requests: how many.
        threshold: the smallest confidence in effect.
        below: how many are below it; good to a hundredth, since that is how wide buckets are.
        median: half of them are less confident; None without any.
        confidence, margin: 100 counts each; count i is of i/100 up to, not including, (i + 1)/100.
    """

    domain: str
    requests: int
    threshold: float
    below: int
    median: float | None
    confidence: Sequence[int]
    margin: Sequence[int]


@dataclass(frozen=True, slots=True)
class ConfidenceReport:
    """How sure the classifier was in a span.

    Attributes:
        since_s, until_s: seconds since the epoch, widened to whole spans of rollups.
        requests: all, those that were not scored among them.
        domains: the busiest first.
    """

    since_s: int
    until_s: int
    requests: int
    domains: tuple[DomainConfidence, ...]

    @property
    def scored(self) -> int:
        """Return how many requests were scored."""
        return sum(one.requests for one in self.domains)

    @property
    def below(self) -> int:
        """Return how many are below their domain's threshold."""
        return sum(one.below for one in self.domains)


@dataclass(frozen=True, slots=True)
class Tried:
    """Thresholds tried on the newest requests of a span.

    Attributes:
        curve: requests and money at each threshold.
        looked_at: rows read.
        whole: whether they are all of the span.
        oldest_us, newest_us: when the oldest and the newest came, microseconds since the epoch; None without any.
    """

    curve: Curve
    looked_at: int
    whole: bool
    oldest_us: int | None
    newest_us: int | None

    def as_json(self) -> dict[str, Any]:
        """Return it ready for JSON."""
        names = ("looked_at", "whole", "oldest_us", "newest_us")
        return {**{name: getattr(self, name) for name in names}, "curve": self.curve.as_json()}


def confidence_report(queries: Queries, since_s: int, until_s: int, thresholds: Thresholds) -> ConfidenceReport:
    """Sum up how sure the classifier was.

    Args:
        queries: the store's.
        since_s: from when on, seconds since the epoch.
        until_s: before when.
        thresholds: those in effect.

    Raises:
        RecordsUnavailable, QueryTooSlow: see there.
    """
    wanted = RollupFilter(since_s, until_s)
    span_s = span_of(wanted, POINTS)
    points = queries.totals(wanted, "domain", POINTS)
    domains = [_domain(point, thresholds.of(point.name)) for point in points if point.name]
    return ConfidenceReport(
        since_s=since_s // span_s * span_s,
        until_s=-(-until_s // span_s) * span_s,
        requests=int(sum(point.sums["requests"] for point in points)),
        domains=tuple(sorted((one for one in domains if one.requests), key=lambda one: (-one.requests, one.domain))),
    )


def tried(
    queries: Queries,
    since_s: int,
    until_s: int,
    thresholds: Thresholds,
    catalog: Catalog,
    limit: int = MOST_ROWS,
) -> Tried:
    """Try all thresholds of confidence on the newest requests of a span, in one pass over them.

    Args:
        queries: the store's.
        since_s: from when on, seconds since the epoch.
        until_s: before when.
        thresholds: those in effect, or others for margin, out of domain and disagreement.
        catalog: experts and prices of now.
        limit: most rows.

    Raises:
        RecordsUnavailable, QueryTooSlow: see there.
    """
    columns = newest(queries.run, COLUMNS, since_s * 1_000_000, until_s * 1_000_000, limit)
    times = columns.values["at_us"]
    found = curve(columns.values, thresholds, catalog)
    return Tried(found, len(columns), columns.whole, columns.oldest_us, int(times[0]) if times else None)


def compared(queries: Queries, thresholds: Thresholds, catalog: Catalog, last: int) -> dict[str, Any]:
    """Return what `what_if.compare` says of the `last` requests.

    Raises:
        RecordsUnavailable, QueryTooSlow: see there.
    """
    columns = newest(queries.run, COLUMNS, 0, 2**62, last)
    return compare(columns.values, thresholds, catalog)


def _domain(point: Point, threshold: float) -> DomainConfidence:
    confidence = part(CONFIDENCE, point.counts)
    return DomainConfidence(
        domain=point.name,
        requests=sum(confidence),
        threshold=threshold,
        below=sum(confidence[: ceil(threshold * CONFIDENCE.buckets - 1e-9)]),
        median=CONFIDENCE.quantile(point.counts, 0.5),
        confidence=confidence,
        margin=part(MARGIN, point.counts),
    )
