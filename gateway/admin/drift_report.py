"""Whether today's requests are like those of a reference week: mixes, scores, abstentions, length. From rollups only.

Reads no rows, so it costs the same whatever the traffic. What the classifier was trained on is not the reference:
drift says that something changed, not that something is wrong.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from gateway.admin.drift_windows import Window, days_until
from gateway.admin.stability import LARGE, LEAST, SOME, Shift, Verdict, binned_shift, named_shift, share_shift
from gateway.stores.records.histograms import BUCKETS, CONFIDENCE, MARGIN, Counts, Scale
from gateway.stores.records.queries import Dimension, Point, Queries, RollupFilter
from gateway.stores.records.rollups import DAY_S
from gateway.stores.records.sums import Sum, sums
from gateway.types import Reason

_CELLS: tuple[Dimension, ...] = ("chosen", "reason", "status_class")
ABSTAINED = frozenset(
    {
        *(Reason.LOW_CONFIDENCE.value, Reason.SMALL_MARGIN.value),
        *(Reason.OUT_OF_DOMAIN.value, Reason.DISAGREEMENT.value),
    }
)


@dataclass(frozen=True, slots=True)
class Traffic:
    """Requests of a window, or of a day.

    Attributes:
        requests: all.
        scored: those with scores.
        domains, experts, reasons: scored requests by best domain; answered ones by expert; all by reason.
        counts: all histograms, (`BUCKETS`,).
        answered: with a status of 2xx.
        input_tokens: of these.
    """

    requests: int
    scored: int
    domains: Mapping[str, int]
    experts: Mapping[str, int]
    reasons: Mapping[str, int]
    counts: Counts
    answered: int
    input_tokens: float

    def histogram(self, scale: Scale) -> Counts:
        """Return one scale's counts."""
        return self.counts[scale.start : scale.start + scale.buckets]

    @property
    def abstained(self) -> int:
        """Return how many were left to the generalist by a threshold."""
        return sum(self.reasons.get(reason, 0) for reason in ABSTAINED)

    @property
    def out_of_domain(self) -> int:
        """Return how many were left to the generalist as out of domain."""
        return self.reasons.get(Reason.OUT_OF_DOMAIN.value, 0)

    @property
    def length(self) -> float | None:
        """Return the mean input tokens of an answered request; None without any."""
        return self.input_tokens / self.answered if self.answered else None


@dataclass(frozen=True, slots=True)
class Length:
    """How long prompts are.

    Attributes:
        before, now: mean input tokens of an answered request; None without any.
        least, most: the same of the reference's days: what changes from day to day anyway.
        verdict: outside of that range, by more than a tenth, or than a quarter, of `before`.
    """

    before: float | None
    now: float | None
    least: float | None
    most: float | None
    verdict: Verdict

    @property
    def ratio(self) -> float | None:
        """Return how much longer prompts are now, as a share of before."""
        return None if not self.before or self.now is None else self.now / self.before - 1


@dataclass(frozen=True, slots=True)
class Day:
    """One day (UTC) against the reference.

    Attributes:
        at_s: its start, seconds since the epoch.
        requests: all.
        domains, confidence, margin: stability indices; None with fewer than `LEAST` scored requests.
        abstained, out_of_domain: shares of scored requests; None without any.
        length: mean input tokens of an answered request; None without any.
    """

    at_s: int
    requests: int
    domains: float | None
    confidence: float | None
    margin: float | None
    abstained: float | None
    out_of_domain: float | None
    length: float | None


@dataclass(frozen=True, slots=True)
class Drift:
    """Now against a reference.

    Attributes:
        now, reference: the windows.
        requests_now, requests_before: all requests in them.
        shifts: `domains`, `experts`, `reasons`, `confidence`, `margin`, `out_of_domain`; the most changed first.
        length: of prompts.
        days: the last ones, the earliest first; days without requests are left out.
    """

    now: Window
    reference: Window
    requests_now: int
    requests_before: int
    shifts: dict[str, Shift]
    length: Length
    days: tuple[Day, ...]

    def as_json(self) -> dict[str, Any]:
        """Return it ready for JSON."""
        return asdict(self)


def drift(queries: Queries, now: Window, reference: Window) -> Drift:
    """Compare two windows, and the last days with the second.

    Args:
        queries: the store's.
        now: what is looked at.
        reference: what it is compared with.

    Raises:
        RecordsUnavailable, QueryTooSlow: see there.
    """
    parts = list(_traffic(queries, reference).values())
    before, after = _added(parts), _added(list(_traffic(queries, now).values()))
    shifts = _shifts(before, after)
    order = sorted(shifts, key=lambda name: (-shifts[name].verdict.rank, shifts[name].chance - shifts[name].index))
    return Drift(
        now=now,
        reference=reference,
        requests_now=after.requests,
        requests_before=before.requests,
        shifts={name: shifts[name] for name in order},
        length=_length(before, after, parts),
        days=_days(queries, now.until_s, before),
    )


def _shifts(before: Traffic, after: Traffic) -> dict[str, Shift]:
    return {
        "domains": named_shift(before.domains, after.domains),
        "experts": named_shift(before.experts, after.experts),
        "reasons": named_shift(before.reasons, after.reasons),
        "confidence": binned_shift(before.histogram(CONFIDENCE), after.histogram(CONFIDENCE)),
        "margin": binned_shift(before.histogram(MARGIN), after.histogram(MARGIN)),
        "out_of_domain": share_shift(("in", "out"), _in_and_out(before), _in_and_out(after)),
    }


def _in_and_out(traffic: Traffic) -> tuple[int, int]:
    return max(0, traffic.scored - traffic.out_of_domain), traffic.out_of_domain


def _traffic(queries: Queries, window: Window) -> dict[int, Traffic]:
    """Return the requests of a window by the start of the day (UTC) that they were in."""
    points: dict[int, list[Point]] = {}
    cells: dict[int, list[Sum]] = {}
    for span in window.spans:
        wanted = RollupFilter(span.since_s, span.until_s)
        most = max(1, -(-(span.until_s - span.since_s) // window.step_s))
        by_day = span.until_s - span.since_s > DAY_S
        for point in (queries.series if by_day else queries.totals)(wanted, "domain", most):
            points.setdefault(point.at_s // DAY_S * DAY_S, []).append(point)
        for cell in sums(queries.run, wanted, _CELLS, over_time=by_day, points=most):
            at_s = span.since_s if cell.at_s is None else cell.at_s
            cells.setdefault(at_s // DAY_S * DAY_S, []).append(cell)
    return {at_s: _of(points.get(at_s, []), cells.get(at_s, [])) for at_s in sorted({*points, *cells})}


def _of(points: Iterable[Point], cells: Iterable[Sum]) -> Traffic:
    domains: Counter[str] = Counter()
    counts = np.zeros(BUCKETS, np.int64)
    for point in points:
        counts += point.counts
        if point.name:
            domains[point.name] += int(point.sums["requests"])
    experts: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    requests, answered, tokens = 0, 0, 0.0
    for cell in cells:
        chosen, reason, status = cell.names
        count = int(cell["requests"])
        requests += count
        reasons.update({reason: count} if reason else {})
        experts.update({chosen: count} if chosen else {})
        if status == "2xx":
            answered, tokens = answered + count, tokens + cell["input_tokens"]
    return Traffic(requests, domains.total(), domains, experts, reasons, counts, answered, tokens)


def _added(parts: Sequence[Traffic]) -> Traffic:
    def sums_of(name: str) -> Counter[str]:
        return sum((Counter(getattr(part, name)) for part in parts), Counter())

    return Traffic(
        requests=sum(part.requests for part in parts),
        scored=sum(part.scored for part in parts),
        domains=sums_of("domains"),
        experts=sums_of("experts"),
        reasons=sums_of("reasons"),
        counts=sum((part.counts for part in parts), np.zeros(BUCKETS, np.int64)),
        answered=sum(part.answered for part in parts),
        input_tokens=sum(part.input_tokens for part in parts),
    )


def _length(before: Traffic, after: Traffic, parts: Sequence[Traffic]) -> Length:
    daily = [part.length for part in parts if part.length is not None]
    least, most = min(daily, default=None), max(daily, default=None)
    found = Length(before.length, after.length, least, most, Verdict.STABLE)
    return Length(before.length, after.length, least, most, _length_verdict(found, before.answered, after.answered))


def _length_verdict(found: Length, before: int, now: int) -> Verdict:
    if min(before, now) < LEAST or found.ratio is None or found.now is None:
        return Verdict.TOO_FEW
    inside = found.least is not None and found.most is not None and found.least <= found.now <= found.most
    if inside or abs(found.ratio) < SOME:
        return Verdict.STABLE
    return Verdict.SOME if abs(found.ratio) < LARGE else Verdict.LARGE


def _days(queries: Queries, until_s: int, before: Traffic) -> tuple[Day, ...]:
    found = _traffic(queries, days_until(until_s))
    return tuple(_day(at_s, traffic, before) for at_s, traffic in found.items())


def _day(at_s: int, traffic: Traffic, before: Traffic) -> Day:
    known = min(traffic.scored, before.scored) >= LEAST
    shifts = _shifts(before, traffic) if known else {}
    indices = {name: shifts[name].index if known else None for name in ("domains", "confidence", "margin")}
    scored = traffic.scored
    return Day(
        at_s=at_s,
        requests=traffic.requests,
        abstained=traffic.abstained / scored if scored else None,
        out_of_domain=traffic.out_of_domain / scored if scored else None,
        length=traffic.length,
        **indices,
    )
