"""Quality figures of a classifier from labels and probabilities; plain numpy, no model and no files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from router.prompts import Prompt
from router.scores import FloatArray

THRESHOLDS: Final = (0.4, 0.5, 0.55, 0.6, 0.7, 0.8, 0.9)
CALIBRATION_BINS: Final = 15
GENERALIST_LABELS: Final = frozenset({"general", "other"})
"""Labels no specialist serves: what is predicted as one of them goes to the generalist."""


@dataclass(frozen=True, slots=True)
class DomainQuality:
    """Figures of one domain; `count` prompts carry its label."""

    count: int
    precision: float
    recall: float
    f1: float


@dataclass(frozen=True, slots=True)
class Coverage:
    """What a minimum confidence does.

    Attributes:
        threshold: smallest top probability that is acted on.
        covered: share of prompts at or above it.
        accuracy: accuracy of those.
        specialist_precision: of prompts sent to a specialist, the share whose label is that domain.
        specialist_recall: of prompts of a specialist domain, the share that reaches a specialist (any).
    """

    threshold: float
    covered: float
    accuracy: float
    specialist_precision: float
    specialist_recall: float


@dataclass(frozen=True, slots=True)
class Quality:
    """Figures of one evaluation set; a prediction in a prompt's `alt` labels counts as right.

    Attributes:
        count: prompts.
        accuracy: share predicted right.
        macro_f1: mean F1 of the domains that occur as a label.
        ece: expected calibration error of the top probability, 15 equal-width bins.
            Source: Guo et al., arXiv:1706.04599.
        domains: figures per domain.
        coverage: figures per confidence threshold.
    """

    count: int
    accuracy: float
    macro_f1: float
    ece: float
    domains: dict[str, DomainQuality]
    coverage: list[Coverage]


def quality(prompts: Sequence[Prompt], probabilities: FloatArray, labels: Sequence[str]) -> Quality:
    """Measure probabilities (n, k) against the labels of n prompts."""
    predicted = [labels[column] for column in probabilities.argmax(axis=1)]
    confidence = probabilities.max(axis=1)
    # A prediction among the fair alternatives is taken as that prompt's label.
    actual = [
        guess if guess in prompt.alternatives else prompt.label
        for prompt, guess in zip(prompts, predicted, strict=True)
    ]
    right = np.array([guess == label for guess, label in zip(predicted, actual, strict=True)], dtype=bool)
    domains = {label: _domain(label, predicted, actual) for label in labels if label in set(actual)}
    return Quality(
        count=len(prompts),
        accuracy=_mean(right),
        macro_f1=_mean(np.array([domain.f1 for domain in domains.values()])),
        ece=calibration_error(confidence, right),
        domains=domains,
        coverage=[_coverage(threshold, confidence, right, predicted, actual) for threshold in THRESHOLDS],
    )


def calibration_error(confidence: FloatArray, right: NDArray[np.bool_]) -> float:
    """Return the mean distance between confidence and accuracy over equal-width bins, weighted by size."""
    if not len(right):
        return 0.0
    bins = np.minimum((confidence * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    error = 0.0
    for index in np.unique(bins):
        inside = bins == index
        error += inside.sum() * abs(float(confidence[inside].mean()) - float(right[inside].mean()))
    return round(float(error / len(right)), 4)


def _domain(label: str, predicted: Sequence[str], actual: Sequence[str]) -> DomainQuality:
    hits = sum(guess == label == truth for guess, truth in zip(predicted, actual, strict=True))
    guessed, count = predicted.count(label), actual.count(label)
    precision = hits / guessed if guessed else 0.0
    recall = hits / count if count else 0.0
    f1 = 2 * precision * recall / (precision + recall) if hits else 0.0
    return DomainQuality(count, precision, recall, f1)


def _coverage(
    threshold: float,
    confidence: FloatArray,
    right: NDArray[np.bool_],
    predicted: Sequence[str],
    actual: Sequence[str],
) -> Coverage:
    covered = confidence >= threshold
    to_specialist = covered & np.array([guess not in GENERALIST_LABELS for guess in predicted], dtype=bool)
    specialist = np.array([label not in GENERALIST_LABELS for label in actual], dtype=bool)
    return Coverage(
        threshold=threshold,
        covered=_mean(covered),
        accuracy=_mean(right[covered]),
        specialist_precision=_mean(right[to_specialist]),
        specialist_recall=_mean(to_specialist[specialist]),
    )


def _mean(values: NDArray[np.bool_] | NDArray[np.float64]) -> float:
    return round(float(values.mean()), 4) if len(values) else 0.0
