"""Quality figures of a classifier from labels and probabilities; plain numpy, no model and no files."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from router.evaluation.calibration import Bin, brier_score, calibration_error, reliability
from router.evaluation.outcomes import Outcomes, outcomes_of
from router.evaluation.rounding import mean, rounded
from router.evaluation.selective import Selective, selective
from router.prompts import Prompt
from router.scores import FloatArray

_Z: Final = 1.959964
"""Two-sided 95 % quantile of the normal distribution."""


@dataclass(frozen=True, slots=True)
class DomainQuality:
    """Figures of one domain.

    Attributes:
        count: prompts with its label.
        predicted: prompts predicted as it.
        precision: share of `predicted` that is right.
        recall: share of `count` that is found.
        f1: harmonic mean of both.
        ece: calibration error of the prompts predicted as it.
    """

    count: int
    predicted: int
    precision: float
    recall: float
    f1: float
    ece: float


@dataclass(frozen=True, slots=True)
class Confusion:
    """Counts (k, k): row `rows[i]` holds the prompts labelled `labels[i]`, column j those predicted `labels[j]`."""

    labels: tuple[str, ...]
    rows: list[list[int]]


@dataclass(frozen=True, slots=True)
class Quality:
    """Figures of one set of prompts; a prediction in a prompt's `alt` labels counts as right.

    Attributes:
        count: prompts.
        accuracy: share predicted right.
        interval: 95 % Wilson interval of the accuracy, low and high.
        macro_f1: mean F1 of the domains that occur as a label.
        ece: expected calibration error of the top probability, 15 equal-width bins.
        brier: multi-class Brier score, 0 to 2.
        selective: what abstaining by confidence does.
        domains: figures per domain that occurs as a label or a prediction.
        confusion: labels against predictions.
        reliability: the bins of the calibration error.
    """

    count: int
    accuracy: float
    interval: tuple[float, float]
    macro_f1: float
    ece: float
    brier: float
    selective: Selective
    domains: dict[str, DomainQuality]
    confusion: Confusion
    reliability: list[Bin]


@dataclass(frozen=True, slots=True)
class SourceMean:
    """Unweighted means over sources, so that one large file is not the whole figure."""

    sources: int
    accuracy: float
    macro_f1: float
    ece: float
    brier: float
    aurc: float


def quality(prompts: Sequence[Prompt], probabilities: FloatArray, labels: Sequence[str]) -> Quality:
    """Measure probabilities (n, k) against the labels of n prompts, which must all be among `labels`."""
    outcomes = outcomes_of(prompts, probabilities, labels)
    domains = _domains(outcomes)
    return Quality(
        count=len(prompts),
        accuracy=mean(outcomes.right),
        interval=wilson_interval(int(outcomes.right.sum()), len(prompts)),
        macro_f1=mean(np.array([domain.f1 for domain in domains.values() if domain.count])),
        ece=calibration_error(outcomes.confidence, outcomes.right),
        brier=brier_score(probabilities, outcomes.actual),
        selective=selective(outcomes.confidence, outcomes.right),
        domains=domains,
        confusion=_confusion(outcomes),
        reliability=reliability(outcomes.confidence, outcomes.right),
    )


def source_mean(sources: Mapping[str, Quality]) -> SourceMean:
    """Return the mean figures over sources; zeros when there are none."""
    figures = np.array([(q.accuracy, q.macro_f1, q.ece, q.brier, q.selective.aurc) for q in sources.values()])
    means = figures.reshape(-1, 5).mean(axis=0).tolist() if len(figures) else [0.0] * 5
    return SourceMean(len(sources), *map(rounded, means))


def wilson_interval(right: int, count: int) -> tuple[float, float]:
    """Return the 95 % interval of a share, (0, 1) when nothing was counted.

    Source: Wilson (1927), Probable inference, the law of succession, and statistical inference.
    """
    if not count:
        return 0.0, 1.0
    share, square = right / count, _Z * _Z
    centre = (share + square / (2 * count)) / (1 + square / count)
    half = _Z * math.sqrt(share * (1 - share) / count + square / (4 * count * count)) / (1 + square / count)
    return rounded(max(0.0, centre - half)), rounded(min(1.0, centre + half))


def _domains(outcomes: Outcomes) -> dict[str, DomainQuality]:
    seen = sorted({*outcomes.predicted.tolist(), *outcomes.actual.tolist()})
    return {outcomes.labels[column]: _domain(outcomes, column) for column in seen}


def _domain(outcomes: Outcomes, column: int) -> DomainQuality:
    guessed, labelled = outcomes.predicted == column, outcomes.actual == column
    precision, recall = float(mean(labelled[guessed])), float(mean(guessed[labelled]))
    hits, total = int((guessed & labelled).sum()), int(guessed.sum() + labelled.sum())
    return DomainQuality(
        count=int(labelled.sum()),
        predicted=int(guessed.sum()),
        precision=precision,
        recall=recall,
        f1=rounded(2 * hits / total),
        ece=calibration_error(outcomes.confidence[guessed], outcomes.right[guessed]),
    )


def _confusion(outcomes: Outcomes) -> Confusion:
    size = len(outcomes.labels)
    counts = np.bincount(outcomes.actual * size + outcomes.predicted, minlength=size * size)
    return Confusion(outcomes.labels, counts.reshape(size, size).tolist())
