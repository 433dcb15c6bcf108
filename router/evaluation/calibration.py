"""How far probabilities can be taken at their word: reliability bins, calibration error, Brier score."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from router.evaluation.rounding import rounded

CALIBRATION_BINS: Final = 15


@dataclass(frozen=True, slots=True)
class Bin:
    """Prompts whose top probability falls into one of 15 equal-width bins; empty bins are left out.

    Attributes:
        count: prompts in the bin.
        confidence: their mean top probability.
        accuracy: share of them predicted right.
    """

    count: int
    confidence: float
    accuracy: float


def reliability(confidence: NDArray[Any], right: NDArray[np.bool_]) -> list[Bin]:
    """Return the bins of n top probabilities, lowest first."""
    bins = np.minimum((confidence * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    return [
        Bin(int(inside.sum()), rounded(confidence[inside].mean()), rounded(right[inside].mean()))
        for inside in (bins == index for index in np.unique(bins))
    ]


def calibration_error(confidence: NDArray[Any], right: NDArray[np.bool_]) -> float:
    """Return the mean distance between confidence and accuracy over the bins, weighted by size; 0 of nothing.

    Source: expected calibration error, Guo et al., arXiv:1706.04599.
    """
    bins = reliability(confidence, right)
    gaps = sum(part.count * abs(part.confidence - part.accuracy) for part in bins)
    return rounded(gaps / len(right)) if len(right) else 0.0


def brier_score(probabilities: NDArray[Any], actual: NDArray[np.intp]) -> float:
    """Return the mean squared distance between probabilities (n, k) and the labels, 0 (best) to 2.

    Source: Brier (1950), Verification of forecasts expressed in terms of probability, in its multi-class form.
    """
    if not len(actual):
        return 0.0
    truth = np.eye(probabilities.shape[1])[actual]
    return rounded(((probabilities - truth) ** 2).sum(axis=1).mean())
