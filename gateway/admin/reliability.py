"""How often the classifier was right where it was so and so sure, from requests that people labelled. Reads no store.

Pure. Whether the labelled requests stand for all is for the caller to say: those picked because they looked odd do not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np

BINS = 10
_Z95 = 1.959963984540054


@dataclass(frozen=True, slots=True)
class Bin:
    """Requests with alike confidence.

    Attributes:
        low, high: bounds of confidence; the upper one is not part of it, but for 1.
        count: labelled requests.
        right: how many of them the classifier had right.
        confidence: their mean confidence; None without any.
        share: right ones among them; None without any.
        share_low, share_high: its 95 % interval; None without any.
    """

    low: float
    high: float
    count: int
    right: int
    confidence: float | None = None
    share: float | None = None
    share_low: float | None = None
    share_high: float | None = None


@dataclass(frozen=True, slots=True)
class Reliability:
    """A reliability diagram.

    Attributes:
        count: labelled requests.
        right: how many the classifier had right.
        confidence: their mean confidence; None without any.
        error: expected calibration error, 0 to 1; None without any.
        bins: in ascending order, empty ones among them.
    """

    count: int
    right: int
    confidence: float | None
    error: float | None
    bins: tuple[Bin, ...]


def reliability(confidences: Sequence[float], right: Sequence[bool], bins: int = BINS) -> Reliability:
    """Compare confidence with how often it was deserved, in bins of equal width.

    The calibration error is the mean distance of confidence and share of right ones over the bins, weighed by their
    counts. With few labels chance alone makes it large: about sqrt(bins / n) / 3.

    Args:
        confidences: n probabilities of the predicted domain, 0 to 1.
        right: n times whether the label was the predicted domain.
        bins: how many.

    Raises:
        ValueError: the two are not equally long, or a confidence is no probability.

    Source: Guo et al., On Calibration of Modern Neural Networks, arXiv:1706.04599, section 2.
    """
    values, hits = np.array(confidences, dtype=np.float64), np.array(right, dtype=bool)
    if values.shape != hits.shape or not bool(((values >= 0) & (values <= 1)).all()):
        raise ValueError("confidences and labels do not match, or a confidence is not in 0..1")
    places = np.minimum((values * bins + 1e-9).astype(np.int64), bins - 1)
    found = tuple(
        _bin(place / bins, (place + 1) / bins, values[places == place].tolist(), int(hits[places == place].sum()))
        for place in range(bins)
    )
    if not len(values):
        return Reliability(0, 0, None, None, found)
    gaps = sum(one.count * abs((one.confidence or 0.0) - (one.share or 0.0)) for one in found)
    return Reliability(len(values), int(hits.sum()), float(values.mean()), gaps / len(values), found)


def wilson(hits: int, count: int) -> tuple[float, float]:
    """Return the 95 % interval of a share; (0, 1) of nothing.

    Source: Wilson, Probable Inference, the Law of Succession, and Statistical Inference, JASA 22 (1927).
    """
    if not count:
        return 0.0, 1.0
    share, z2 = hits / count, _Z95**2
    middle = (share + z2 / (2 * count)) / (1 + z2 / count)
    half = _Z95 * sqrt(share * (1 - share) / count + z2 / (4 * count**2)) / (1 + z2 / count)
    return max(0.0, middle - half), min(1.0, middle + half)


def _bin(low: float, high: float, values: list[float], right: int) -> Bin:
    count = len(values)
    if not count:
        return Bin(low, high, 0, 0)
    return Bin(low, high, count, right, sum(values) / count, right / count, *wilson(right, count))
