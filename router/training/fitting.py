"""Fit what turns logits into decisions: factors of the tiers, hand-over, thresholds. Logits and labels in, no model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.stats import beta

from router.abstention import DEFAULT_CONFIDENCE, Thresholds, abstain
from router.calibration import Calibration
from router.scores import FloatArray, ScoreBatch

GENERALIST_LABELS: Final = frozenset({"general", "other"})
CERTAINTY: Final = 0.90
"""One-sided confidence of the bound on wrong decisions."""
LOST_BY_HAND_OVER: Final = 0.002
"""Accuracy the pair may lose against asking the transformer always."""
SHIFT_PENALTY: Final = 0.01
LOST_TO_LIMITS: Final = 0.01
LOST_TO_DISAGREEMENT: Final = 0.002
"""Lower, because small talk behind a prompt raises the disagreement too, and moved more routes than steering did."""
WRONG_SHARES: Final = np.round(np.arange(0.01, 0.301, 0.005), 3)
_LOWEST: Final = 0.60
_HIGHEST: Final = 0.80
"""The probabilities are calibrated, so that one threshold for all would serve best (measured: 0.45 to 0.90 sent more
prompts to the wrong expert at the same reach, and moved more of them when they were reworded); the band only mends
domains that are worse than their probabilities say."""
_GRID: Final = np.round(np.arange(_LOWEST, _HIGHEST + 0.001, 0.01), 2)
_HAND_OVERS: Final = np.round(np.concatenate([np.arange(0.5, 0.95, 0.025), np.arange(0.95, 0.999, 0.01)]), 3)
_FEWEST: Final = 30
"""A domain with fewer decisions to judge by keeps the common threshold."""


@dataclass(frozen=True, slots=True, eq=False)
class Held:
    """Logits of prompts nothing was trained on.

    Attributes:
        first: (n, k) logits of the first tier.
        second: (n, k) of the second, None without one.
        readable: (n,) how likely the second tier can read the prompt.
        right: (n, k) bool, every label that counts as right.
        weights: (n,) how much a prompt counts.
    """

    first: FloatArray
    second: FloatArray | None
    readable: FloatArray
    right: NDArray[np.bool_]
    weights: NDArray[np.float64]


def fit_calibration(held: Held) -> Calibration:
    """Fit inverse temperatures and shifts by log loss, then the hand-over by accuracy.

    The hand-over is the lowest at which the pair loses at most `LOST_BY_HAND_OVER` against always asking both.
    """
    (alone,), shift = _vector_scaling([held.first], held, held.weights)
    calibration = Calibration(first=alone, first_shift=shift)
    if held.second is None:
        return calibration
    readable = held.readable >= calibration.least_readable
    if not readable.any():
        return replace(calibration, hand_over=0.0)
    pair, shift = _vector_scaling([held.first, held.second], held, held.weights * readable)
    calibration = replace(calibration, pair=(pair[0], pair[1]), pair_shift=shift)
    accuracies = {over: _accuracy(held, replace(calibration, hand_over=float(over))) for over in _HAND_OVERS}
    best = _accuracy(held, replace(calibration, hand_over=math.inf))
    enough = [over for over, accuracy in accuracies.items() if accuracy >= best - LOST_BY_HAND_OVER]
    return replace(calibration, hand_over=float(min(enough, default=1.0)))


def probabilities_of(held: Held, calibration: Calibration) -> FloatArray:
    """Return the probabilities (n, k) that serving would give."""
    alone = calibration.alone(held.first)
    if held.second is None:
        return alone
    asked = (alone.max(axis=1) < calibration.hand_over) & (held.readable >= calibration.least_readable)
    both = calibration.together(held.first, held.second)
    return np.where(asked[:, None], both, alone).astype(np.float32)


@dataclass(frozen=True, slots=True)
class Fitted:
    """Thresholds and what they were fitted for.

    Attributes:
        thresholds: the thresholds.
        wrong_share: largest share of a domain's decisions that is wrong, with confidence `CERTAINTY`.
        reached: share of the specialist prompts that reach a specialist.
    """

    thresholds: Thresholds
    wrong_share: float
    reached: float


def fit_thresholds(
    probabilities: FloatArray, right: NDArray[np.bool_], labels: Sequence[str], least_reached: float
) -> Fitted:
    """Return the strictest per-domain thresholds that still let `least_reached` of the specialist prompts through.

    For a wrong share from `WRONG_SHARES`, each domain gets the lowest threshold at which the Clopper-Pearson (1934)
    upper bound on its wrong decisions keeps to the share, or the highest of the grid; the smallest share that lets
    enough prompts through is taken. The generalist's own labels need no threshold.
    """
    fitted = None
    for wrong_share in WRONG_SHARES:
        thresholds = _thresholds(probabilities, right, labels, float(wrong_share))
        fitted = Fitted(thresholds, float(wrong_share), _reached(probabilities, right, labels, thresholds))
        if fitted.reached >= least_reached:
            return fitted
    assert fitted is not None
    return fitted


def _thresholds(
    probabilities: FloatArray, right: NDArray[np.bool_], labels: Sequence[str], wrong_share: float
) -> Thresholds:
    best = probabilities.argmax(axis=1)
    confidence = probabilities.max(axis=1)
    hits = right[np.arange(len(right)), best]
    limits = {label: 0.0 for label in labels if label in GENERALIST_LABELS}
    for column, label in enumerate(labels):
        mine = best == column
        if label not in limits and mine.sum() >= _FEWEST:
            limits[label] = _threshold(confidence[mine], hits[mine], wrong_share)
    return Thresholds(confidence=limits, default_confidence=DEFAULT_CONFIDENCE)


def _reached(
    probabilities: FloatArray, right: NDArray[np.bool_], labels: Sequence[str], thresholds: Thresholds
) -> float:
    specialist = np.array([label not in GENERALIST_LABELS for label in labels])
    limits = np.array([thresholds.of(label) for label in labels])
    best = probabilities.argmax(axis=1)
    decided = specialist[best] & (probabilities.max(axis=1) >= limits[best])
    prompts = right[:, specialist].any(axis=1) & ~right[:, ~specialist].any(axis=1)
    return float(decided[prompts].mean()) if prompts.any() else 0.0


def upper_bound(wrong: int, count: int) -> float:
    """Return the Clopper-Pearson upper limit, at `CERTAINTY`, of a share seen as `wrong` of `count`."""
    return 1.0 if wrong >= count else float(beta.ppf(CERTAINTY, wrong + 1, count - wrong))


def _threshold(confidence: FloatArray, hits: NDArray[np.bool_], wrong_share: float) -> float:
    for limit in _GRID:
        decided = confidence >= limit
        if upper_bound(int((~hits[decided]).sum()), int(decided.sum())) <= wrong_share:
            return float(limit)
    return float(_HIGHEST)


def _vector_scaling(
    tiers: list[FloatArray], held: Held, weights: NDArray[np.float64]
) -> tuple[list[float], tuple[float, ...]]:
    """Return one factor per tier and one shift per label, of least weighted log loss.

    A prompt's loss is that of all its right labels together; `SHIFT_PENALTY` keeps shifts from following noise.
    """
    count = len(tiers)

    def loss(numbers: NDArray[np.float64]) -> float:
        mixed = sum(np.exp(log) * tier.astype(np.float64) for log, tier in zip(numbers[:count], tiers, strict=True))
        mixed = mixed + numbers[count:]
        mixed = mixed - mixed.max(axis=1, keepdims=True)
        powers = np.exp(mixed)
        hit = (powers * held.right).sum(axis=1) / powers.sum(axis=1)
        misfit = float(np.average(-np.log(np.maximum(hit, 1e-12)), weights=weights))
        return misfit + SHIFT_PENALTY * float(np.square(numbers[count:]).sum())

    start = np.concatenate([np.full(count, -math.log(count)), np.zeros(tiers[0].shape[1])])
    answer = minimize(loss, start, method="L-BFGS-B")
    shifts = answer.x[count:] - answer.x[count:].mean()
    return [round(float(np.exp(log)), 4) for log in answer.x[:count]], tuple(round(float(x), 4) for x in shifts)


def _accuracy(held: Held, calibration: Calibration) -> float:
    best = probabilities_of(held, calibration).argmax(axis=1)
    return float(np.average(held.right[np.arange(len(best)), best], weights=held.weights))


def fit_limits(thresholds: Thresholds, scores: ScoreBatch, right: NDArray[np.bool_]) -> Thresholds:
    """Return the thresholds with limits on strangeness and disagreement that cost few of the right decisions.

    Each limit is the quantile above which `LOST_TO_LIMITS` or `LOST_TO_DISAGREEMENT` of the right decisions for a
    specialist lie.
    """
    decided = [
        row
        for row, score in enumerate(scores)
        if score.top()[0] not in GENERALIST_LABELS
        and abstain(score, thresholds) is None
        and right[row, scores.probabilities[row].argmax()]
    ]
    if len(decided) < _FEWEST:
        return thresholds
    strange, moved = scores.out_of_domain[decided], scores.disagreement[decided]
    return replace(
        thresholds,
        out_of_domain=round(float(np.quantile(strange, 1 - LOST_TO_LIMITS)), 4),
        disagreement=round(float(np.quantile(moved, 1 - LOST_TO_DISAGREEMENT)), 4),
    )
