"""How far one spread of counts is from another: the population stability index, and what chance alone would give.

Pure; names nothing and asks nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from math import sqrt

import numpy as np
import numpy.typing as npt

SOME, LARGE = 0.1, 0.25
"""The usual bands: below the first nothing much has changed, above the second much has."""
LEAST = 100
"""Fewer requests on a side than this, and nothing is said."""
POINT = 0.01
"""A rare share must change by so much to be called shifted."""
BINS = 10
_ADDED = 0.5
_Z95 = 1.6448536269514722

Counts = npt.NDArray[np.int64]


class Verdict(StrEnum):
    """What an index means, the gravest last."""

    TOO_FEW = "too_few"
    """A side has fewer than `LEAST` requests."""
    STABLE = "stable"
    """Below `SOME`, or no more than chance gives."""
    SOME = "some"
    """Between the bands, and more than chance gives."""
    LARGE = "large"
    """Above `LARGE`, and more than chance gives."""

    @property
    def rank(self) -> int:
        """Return its place, for sorting."""
        return list(Verdict).index(self)


@dataclass(frozen=True, slots=True)
class Part:
    """One bin, or one name, on both sides.

    Attributes:
        name: what it is.
        before, now: requests in the reference, and now.
        share_before, share_now: of all, 0 to 1; 0 of nothing.
        index: what it adds to the whole index.
    """

    name: str
    before: int
    now: int
    share_before: float
    share_now: float
    index: float

    @property
    def change(self) -> float:
        """Return the difference of the shares."""
        return self.share_now - self.share_before


@dataclass(frozen=True, slots=True)
class Shift:
    """How far two spreads are apart.

    Attributes:
        index: the population stability index; 0 when they are the same.
        chance: the index that 95 of 100 pairs of random samples of these sizes, of one and the same spread, stay below.
        before, now: requests on each side.
        verdict: what that means.
        parts: in the order they were given in.
    """

    index: float
    chance: float
    before: int
    now: int
    verdict: Verdict
    parts: tuple[Part, ...]

    def movers(self, most: int = 2) -> list[Part]:
        """Return the parts whose share changed most, the one that did so most first."""
        return sorted((part for part in self.parts if part.change), key=lambda part: -abs(part.change))[:most]


def shift(names: Sequence[str], before: Sequence[int], now: Sequence[int]) -> Shift:
    """Compare two spreads over the same n bins.

    The index is the sum over bins of (q - p) ln(q / p), with p and q the shares before and now: the symmetric
    divergence of Jeffreys. Half a request is added to each bin, so that one that was empty does not make it infinite.
    Of two samples of one spread it is about chi-squared with n - 1 degrees, times (1/before + 1/now): that gives
    `chance`. It takes requests for independent; long conversations and batches are not, so real chance is more.

    Args:
        names: of the n bins; those empty on both sides are left out.
        before: n counts of the reference.
        now: n counts.

    Raises:
        ValueError: the three are not equally long.

    Source: index and bands: Siddiqi, Credit Risk Scorecards (Wiley, 2006), after Lewis, An Introduction to Credit
    Scoring (1994). Chance: Yurdakul and Naranjo, Statistical Properties of the Population Stability Index, Journal of
    Risk Model Validation 14 (2020).
    """
    kept = [(name, a, b) for name, a, b in zip(names, before, now, strict=True) if a or b]
    old, new = np.array([a for _, a, _ in kept], np.float64), np.array([b for _, _, b in kept], np.float64)
    p, q = _shares(old + _ADDED), _shares(new + _ADDED)
    added = (q - p) * np.log(q / p)
    plain = zip(kept, _shares(old).tolist(), _shares(new).tolist(), added.tolist(), strict=True)
    parts = tuple(Part(name, a, b, was, is_now, index) for (name, a, b), was, is_now, index in plain)
    total, counts = float(added.sum()), (int(old.sum()), int(new.sum()))
    chance = chance_index(len(kept), *counts)
    return Shift(total, chance, *counts, _verdict(total, chance, min(counts)), parts)


def share_shift(names: tuple[str, str], before: tuple[int, int], now: tuple[int, int]) -> Shift:
    """Compare how many are in the second of two parts, when that is few.

    The index hardly sees a rare part: from 0.5 to 2 per cent is 0.02. So the verdict is of our own making: more than
    chance gives, by `POINT` or more, and half as many again (some) or twice as many (large), or as much less.

    Args:
        names: of both parts.
        before: requests in each in the reference.
        now: requests in each now.
    """
    found = shift(names, before, now)
    if found.verdict is Verdict.TOO_FEW:
        return found
    shares = [side[1] / max(1, sum(side)) for side in (before, now)]
    verdict, low, high = Verdict.STABLE, min(shares), max(shares)
    if found.index > found.chance and high - low >= POINT and high >= 1.5 * low:
        verdict = Verdict.LARGE if high >= 2 * low else Verdict.SOME
    return replace(found, verdict=max(verdict, found.verdict, key=lambda one: one.rank))


def chance_index(bins: int, before: int, now: int) -> float:
    """Return the index that chance alone stays below in 95 of 100 cases; 0 with less than two bins, or nothing in them.

    Source: see `shift`; the quantile of chi-squared by Wilson and Hilferty, The Distribution of Chi-Square, PNAS 17
    (1931), good to 2 % from one degree on.
    """
    degrees = bins - 1
    if degrees < 1 or not before or not now:
        return 0.0
    part = 2 / (9 * degrees)
    return float(degrees * (1 - part + _Z95 * sqrt(part)) ** 3 * (1 / before + 1 / now))


def named_shift(before: Mapping[str, float], now: Mapping[str, float]) -> Shift:
    """Compare two mixes by name, the most frequent before first."""
    names = sorted({*before, *now}, key=lambda name: (-before.get(name, 0), -now.get(name, 0), name))
    return shift(names, *([int(side.get(name, 0)) for name in names] for side in (before, now)))


def binned_shift(before: Counts, now: Counts, bins: int = BINS) -> Shift:
    """Compare two histograms of probabilities in bins that held about as many requests each before.

    Fixed bins would be empty where there is little, and then chance alone makes the index.

    Args:
        before: (n,) counts of n equal parts of 0 to 1.
        now: (n,) counts.
        bins: about how many.
    """
    ends = _ends(before if before.sum() else now, bins)
    starts = [0, *ends[:-1]]
    names = [f"{start / len(before):.2f} to {end / len(before):.2f}" for start, end in zip(starts, ends, strict=True)]
    sums = [np.add.reduceat(side, starts).tolist() for side in (before, now)]
    return shift(names, *sums)


def _ends(counts: Counts, bins: int) -> list[int]:
    """Return where bins end, the last one at the very end; what alone holds more than its part is a bin of its own."""
    total = int(counts.sum())
    if not total:
        return [len(counts)]
    ranks = [total * share / bins for share in range(1, bins)]
    inner = {int(place) + 1 for place in np.searchsorted(np.cumsum(counts), ranks)}
    inner |= {int(place) + end for place in np.flatnonzero(counts > total / bins) for end in (0, 1)}
    return sorted({*(end for end in inner if 0 < end < len(counts)), len(counts)})


def _shares(counts: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return counts / max(float(counts.sum()), 1e-300)


def _verdict(index: float, chance: float, least: int) -> Verdict:
    if least < LEAST:
        return Verdict.TOO_FEW
    if index < SOME or index <= chance:
        return Verdict.STABLE
    return Verdict.SOME if index < LARGE else Verdict.LARGE
