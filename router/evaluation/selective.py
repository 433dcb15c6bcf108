"""What is gained by answering only the prompts the classifier is surest of: risk at a coverage."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from router.evaluation.rounding import mean, rounded

COVERAGES: Final = tuple(step / 20 for step in range(1, 21))
SELECTIVE_COVERAGES: Final = (0.8, 0.9)


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """Share of wrong predictions (`risk`) among the `coverage` share of prompts with the highest confidence."""

    coverage: float
    risk: float


@dataclass(frozen=True, slots=True)
class Selective:
    """Figures of confidence as a reason to abstain.

    Attributes:
        aurc: area under the coverage-risk curve, the mean risk over all coverages; lower is better.
            Source: Geifman et al., arXiv:1805.08206.
        accuracy: coverage ("0.8", "0.9") to the accuracy of that share of prompts.
        curve: risk at coverages 0.05, 0.1 and so on to 1; empty when there are no prompts.
    """

    aurc: float
    accuracy: dict[str, float]
    curve: list[CurvePoint]


def selective(confidence: NDArray[Any], right: NDArray[np.bool_]) -> Selective:
    """Measure n top probabilities against whether the predictions were right."""
    risks = _risks(confidence, right)
    if not len(risks):
        return Selective(0.0, {str(coverage): 0.0 for coverage in SELECTIVE_COVERAGES}, [])
    return Selective(
        aurc=mean(risks),
        accuracy={str(coverage): rounded(1 - _at(risks, coverage)) for coverage in SELECTIVE_COVERAGES},
        curve=[CurvePoint(coverage, rounded(_at(risks, coverage))) for coverage in COVERAGES],
    )


def _risks(confidence: NDArray[Any], right: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the risk of the 1, 2, ... n surest prompts.

    Equal confidences count as if each were wrong to their mean degree: the order of the files must not matter.
    """
    _, group, sizes = np.unique(-confidence, return_inverse=True, return_counts=True)
    wrong = np.bincount(group, weights=~right, minlength=len(sizes)) / sizes
    risks: NDArray[np.float64] = np.cumsum(np.repeat(wrong, sizes)) / np.arange(1, len(right) + 1)
    return risks


def _at(risks: NDArray[np.float64], coverage: float) -> float:
    # 0.15 * 20 is a little more than 3 in floating point and must still mean three prompts.
    taken = math.ceil(round(coverage * len(risks), 6))
    return float(risks[taken - 1])
