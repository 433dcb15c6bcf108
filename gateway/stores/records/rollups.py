"""Sums and histograms of many requests per minute, hour and day, so that pages need not read rows. Runs no SQL.

Days are kept besides minutes and hours: two years by the hour are 876,000 rows at 50 combinations, by the day 36,500.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from gateway.stores.records.contract import RecordRow
from gateway.stores.records.histograms import (
    CONFIDENCE,
    DURATION,
    FIRST_BYTE,
    MARGIN,
    pack,
    share_bucket,
    time_bucket,
    unpack,
)
from gateway.stores.records.tables import PLACE, SUMS

MINUTE_S, HOUR_S, DAY_S = 60, 3_600, 86_400
SPANS = (MINUTE_S, HOUR_S, DAY_S)

RollupKey = tuple[int, int, str, str, str, str]
"""`span_s`, `at_s`, domain, chosen, reason, status class; "" where there is none."""

_DOMAIN, _CHOSEN, _REASON, _STATUS = (PLACE[name] for name in ("domain", "chosen", "reason", "status"))
_ATTEMPTS, _CALLS, _COST, _BASELINE = (PLACE[name] for name in ("attempts", "calls", "cost", "baseline_cost"))
_INPUT, _OUTPUT, _CACHED = (PLACE[name] for name in ("input_tokens", "output_tokens", "cached_tokens"))
_DURATION, _OVERHEAD, _FIRST = (PLACE[name] for name in ("duration_s", "overhead_s", "time_to_first_byte_s"))
_CONFIDENCE, _MARGIN = PLACE["confidence"], PLACE["margin"]


@dataclass(slots=True)
class Rollup:
    """What is summed up of requests alike; `sums` has one number for each of `tables.SUMS`."""

    sums: list[Any] = field(default_factory=lambda: [0] * len(SUMS))
    counts: dict[int, int] = field(default_factory=dict)

    def add(self, values: Sequence[Any]) -> None:
        """Count one row's values in."""
        cost, baseline = values[_COST], values[_BASELINE]
        both = cost is not None and baseline is not None
        failed_over = (values[_ATTEMPTS] or 0) > (values[_CALLS] or 0)
        numbers = (1, failed_over, both, values[_INPUT], values[_OUTPUT], values[_CACHED])
        saving = baseline - cost if both else 0
        reals = (cost, baseline, saving, values[_DURATION], values[_OVERHEAD])
        self.sums = [old + (new or 0) for old, new in zip(self.sums, (*numbers, *reals), strict=True)]
        for bucket in _buckets(values):
            self.counts[bucket] = self.counts.get(bucket, 0) + 1

    def merge(self, sums: Iterable[Any], counts: dict[int, int]) -> None:
        """Add another one's numbers."""
        self.sums = [mine + other for mine, other in zip(self.sums, sums, strict=True)]
        for bucket, count in counts.items():
            self.counts[bucket] = self.counts.get(bucket, 0) + count


def _buckets(values: Sequence[Any]) -> list[int]:
    found = []
    if (first := values[_FIRST]) is not None:
        found.append(time_bucket(FIRST_BYTE, first))
    if (duration := values[_DURATION]) is not None:
        found.append(time_bucket(DURATION, duration))
    if (confidence := values[_CONFIDENCE]) is not None:
        found.append(share_bucket(CONFIDENCE, confidence))
    if (margin := values[_MARGIN]) is not None:
        found.append(share_bucket(MARGIN, margin))
    return found


def tally(rows: Iterable[RecordRow]) -> dict[RollupKey, Rollup]:
    """Sum rows up by minute, hour and day. Keys are in ascending order: two writers lock them alike."""
    minutes: dict[RollupKey, Rollup] = {}
    for row in rows:
        values: Sequence[Any] = row.values
        at_s = row.at_us // 60_000_000 * 60
        key = (MINUTE_S, at_s, values[_DOMAIN] or "", values[_CHOSEN] or "", values[_REASON] or "", _class(values))
        minutes.setdefault(key, Rollup()).add(values)
    found = dict(minutes)
    for (_, at_s, *rest), rollup in minutes.items():
        for span_s in (HOUR_S, DAY_S):
            wide: Any = (span_s, at_s // span_s * span_s, *rest)
            found.setdefault(wide, Rollup()).merge(rollup.sums, rollup.counts)
    return dict(sorted(found.items()))


def _class(values: Sequence[Any]) -> str:
    return f"{int(values[_STATUS] or 0) // 100}xx"


def stored_row(key: RollupKey, new: Rollup, old: Sequence[Any] | None) -> tuple[Any, ...]:
    """Return the row to store, one value for each of `ROLLUP_COLUMNS`.

    Args:
        key: which.
        new: what comes in addition.
        old: what is stored: the sums, then the packed histograms; None when nothing is.
    """
    if old is not None:
        new.merge(old[: len(SUMS)], unpack(bytes(old[len(SUMS)])))
    return (*key, *new.sums, pack(new.counts))
