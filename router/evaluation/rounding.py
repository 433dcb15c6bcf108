"""Figures are kept to four decimals; the mean of nothing is zero, so that JSON never holds NaN."""

from __future__ import annotations

from typing import Any, Final

from numpy.typing import NDArray

_DECIMALS: Final = 4


def rounded(value: float) -> float:
    """Return a plain float with four decimals."""
    return round(float(value), _DECIMALS)


def mean(values: NDArray[Any]) -> float:
    """Return the rounded mean, 0.0 of an empty array."""
    return rounded(values.mean()) if len(values) else 0.0
