"""Quantiles of the Beta distribution, which scipy has and serving does without. Numbers only."""

from __future__ import annotations

from math import lgamma
from statistics import NormalDist
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

NORMAL_FROM: Final = 20_000.0
"""From this sum of both parameters on the normal quantile is used; it is off by less than 0.0003 there."""
_MOST_STEPS: Final = 60
_WIDTH: Final = 40.0
"""Standard deviations that the search reaches from the mean: enough for levels up to 0.999 (Cantelli)."""
_MOST_TERMS: Final = 400
_TINY: Final = 1e-300
_EDGE: Final = 1e-16
_ENOUGH: Final = 1e-12
_CLOSE: Final = 1e-10


def beta_quantile(level: float, a: ArrayLike, b: ArrayLike) -> Array:
    """Return the quantile of Beta(a, b) at `level`, elementwise, to about 1e-9 below `NORMAL_FROM`.

    Args:
        level: 0.001 to 0.999.
        a: positive numbers.
        b: positive numbers of the same shape.

    Source: the incomplete beta function by its continued fraction, Numerical Recipes section 6.4.
    """
    first, second = np.broadcast_arrays(np.asarray(a, np.float64), np.asarray(b, np.float64))
    total = first + second
    mean = first / total
    quantile = np.array(mean + NormalDist().inv_cdf(level) * np.sqrt(mean * (1 - mean) / (total + 1)))
    small = total < NORMAL_FROM
    quantile[small] = _inverted(level, first[small], second[small])
    return np.asarray(np.clip(quantile, 0.0, 1.0))


def _inverted(level: float, a: Array, b: Array) -> Array:
    """Return the quantile by Newton's method, halving the bracket where a step would leave it."""
    mean = a / (a + b)
    reach = _WIDTH * np.sqrt(mean * (1 - mean) / (a + b + 1))
    low, high, x = np.maximum(mean - reach, _TINY), np.minimum(mean + reach, 1 - _EDGE), np.minimum(mean, 1 - _EDGE)
    front = _log_front(a, b)
    for _ in range(_MOST_STEPS if a.size else 0):
        gap = incomplete_beta(x, a, b) - level
        if (np.minimum(np.abs(gap), high - low) < _CLOSE).all():
            break
        low, high = np.where(gap < 0, x, low), np.where(gap < 0, high, x)
        # The derivative is the density; where it is 0 or the step leaves the bracket, the middle is taken.
        density = np.exp(front + (a - 1) * np.log(x) + (b - 1) * np.log1p(-x))
        step = x - gap / np.maximum(density, _TINY)
        x = np.where((step > low) & (step < high), step, (low + high) / 2)
    return x


def incomplete_beta(x: Array, a: Array, b: Array) -> Array:
    """Return the share of Beta(a, b) below `x` (0 to 1, both excluded), elementwise."""
    # The fraction converges fast below the mean; above it the mirror image is taken.
    mirrored = x > (a + 1) / (a + b + 2)
    p, q = np.where(mirrored, b, a), np.where(mirrored, a, b)
    y = np.where(mirrored, 1 - x, x)
    share = np.exp(_log_front(p, q) + p * np.log(y) + q * np.log1p(-y)) * _fraction(y, p, q) / p
    return np.asarray(np.where(mirrored, 1 - share, share))


def _log_front(a: Array, b: Array) -> Array:
    # math.lgamma is the only one at hand; a table has some hundred cells.
    pairs = zip(a.tolist(), b.tolist(), strict=True)
    return np.array([lgamma(first + second) - lgamma(first) - lgamma(second) for first, second in pairs])


def _fraction(x: Array, a: Array, b: Array) -> Array:
    """Return the continued fraction by Lentz's method."""
    c = np.ones_like(x)
    d = 1 / _not_zero(1 - (a + b) * x / (a + 1))
    value = d.copy()
    for m in range(1, _MOST_TERMS):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for term in (even, odd):
            d = 1 / _not_zero(1 + term * d)
            c = _not_zero(1 + term / c)
            step = c * d
            value *= step
        if np.abs(step - 1).max(initial=0.0) < _ENOUGH:
            break
    return value


def _not_zero(values: Array) -> Array:
    return np.where(np.abs(values) < _TINY, _TINY, values)
