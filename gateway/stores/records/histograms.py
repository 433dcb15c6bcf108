"""Histograms with fixed buckets, so that any two can be added: by minute, by expert, by process. Stores nothing.

Four scales share one row of buckets. Times have four buckets per doubling from 1 ms to 1,049 s (a bucket is 19 % wide);
probabilities have 100. Stored is only what is not zero: pairs of little-endian uint32, bucket and count.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Counts = npt.NDArray[np.int64]

_FIRST_S = 0.001
_PER_DOUBLING = 4
_TIME_BUCKETS = 82
_SHARE_BUCKETS = 100
_MOST = 2**32 - 1


@dataclass(frozen=True, slots=True)
class Scale:
    """The buckets of one measure.

    Attributes:
        start: its first bucket in the shared row.
        buckets: how many it has.
        edges: upper bound of each bucket, in the measure's unit; a time's last bucket has none and shows its lower.
    """

    start: int
    buckets: int
    edges: tuple[float, ...]

    def quantile(self, counts: Counts, share: float) -> float | None:
        """Return the value that `share` of what was counted stays below, interpolated in its bucket; None: nothing.

        Args:
            counts: (`BUCKETS`,), all scales.
            share: 0 to 1.
        """
        mine = counts[self.start : self.start + self.buckets]
        total = int(mine.sum())
        if not total:
            return None
        rising = np.cumsum(mine)
        rank = max(share * total, 1e-9)
        place = int(np.searchsorted(rising, rank))
        below = float(rising[place - 1]) if place else 0.0
        low, high = (self.edges[place - 1] if place else 0.0), self.edges[place]
        return low + (high - low) * (rank - below) / float(mine[place])


def _times(start: int) -> Scale:
    edges = [_FIRST_S * 2 ** (i / _PER_DOUBLING) for i in range(_TIME_BUCKETS - 1)]
    return Scale(start, _TIME_BUCKETS, (*edges, edges[-1]))


def _shares(start: int) -> Scale:
    return Scale(start, _SHARE_BUCKETS, tuple((i + 1) / _SHARE_BUCKETS for i in range(_SHARE_BUCKETS)))


FIRST_BYTE = _times(0)
DURATION = _times(_TIME_BUCKETS)
CONFIDENCE = _shares(2 * _TIME_BUCKETS)
MARGIN = _shares(2 * _TIME_BUCKETS + _SHARE_BUCKETS)
BUCKETS = 2 * (_TIME_BUCKETS + _SHARE_BUCKETS)


def time_bucket(scale: Scale, seconds: float) -> int:
    """Return the bucket of a time in the shared row."""
    if not seconds > _FIRST_S:  # NaN too
        return scale.start
    if seconds == math.inf:
        return scale.start + scale.buckets - 1
    # 1e-9: a value that is an edge belongs below it, whatever the logarithm's last digit says.
    place = math.ceil(math.log2(seconds / _FIRST_S) * _PER_DOUBLING - 1e-9)
    return scale.start + min(place, scale.buckets - 1)


def share_bucket(scale: Scale, share: float) -> int:
    """Return the bucket of a probability in the shared row; bucket i holds i/100 up to, not including, (i+1)/100."""
    if not share > 0:
        return scale.start
    return scale.start + min(int(min(share, 1.0) * _SHARE_BUCKETS + 1e-9), _SHARE_BUCKETS - 1)


def pack(counts: dict[int, int]) -> bytes:
    """Return what is stored of counts by bucket."""
    pairs = np.fromiter((n for item in sorted(counts.items()) for n in item), np.uint64, 2 * len(counts))
    return np.minimum(pairs, _MOST).astype("<u4").tobytes()


def unpack(stored: bytes) -> dict[int, int]:
    """Return counts by bucket of what was stored.

    Raises:
        ValueError: the bytes are not whole pairs.
    """
    numbers = np.frombuffer(stored, "<u4").tolist()
    return dict(zip(numbers[::2], numbers[1::2], strict=True))


def total(stored: Iterable[bytes]) -> Counts:
    """Add stored histograms up. Returns int64 (`BUCKETS`,); unknown buckets are left out."""
    pairs: Any = np.frombuffer(b"".join(stored), "<u4").reshape(-1, 2)
    known = pairs[pairs[:, 0] < BUCKETS]
    return np.bincount(known[:, 0], weights=known[:, 1], minlength=BUCKETS).astype(np.int64)


def part(scale: Scale, counts: Counts) -> Sequence[int]:
    """Return one scale's counts, a plain list of `scale.buckets`."""
    mine: list[int] = counts[scale.start : scale.start + scale.buckets].tolist()
    return mine
