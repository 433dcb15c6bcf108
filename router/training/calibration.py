"""Fit the temperature that makes probabilities honest; it sees logits and labels only."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

_STEPS: Final = 60
_SMALLEST: Final = 0.2
_LARGEST: Final = 8.0


def fit_temperature(
    log_probabilities: NDArray[np.float64], right: NDArray[np.bool_], weights: NDArray[np.float64]
) -> float:
    """Return the temperature of least log loss.

    Args:
        log_probabilities: (n, k) logits, or logs of probabilities at temperature 1 (the same up to a constant).
        right: (n, k), true for every label that counts as right; a row's loss is that of their summed probability.
        weights: (n,) weight of each row.

    Source: temperature scaling, arXiv:1706.04599; golden-section search, the loss is smooth with one minimum here.
    """
    low, high = np.log(_SMALLEST), np.log(_LARGEST)
    ratio = (5**0.5 - 1) / 2
    for _ in range(_STEPS):
        left, right_end = high - ratio * (high - low), low + ratio * (high - low)
        if _loss(log_probabilities, right, weights, np.exp(left)) < _loss(
            log_probabilities, right, weights, np.exp(right_end)
        ):
            high = right_end
        else:
            low = left
    return float(np.exp((low + high) / 2))


def _loss(
    logits: NDArray[np.float64], right: NDArray[np.bool_], weights: NDArray[np.float64], temperature: float
) -> float:
    scaled = logits / temperature
    scaled = scaled - scaled.max(axis=1, keepdims=True)
    powers = np.exp(scaled)
    hit = (powers * right).sum(axis=1) / powers.sum(axis=1)
    return float(np.average(-np.log(np.maximum(hit, 1e-12)), weights=weights))
