"""By how much experts beat the generalist on the same prompts, group by group, shrunk to what was expected there.

Scores of two experts on one prompt go together: a hard prompt is hard for both. Their difference says more of who is
better than two means do. No files, no embeddings.
"""

from __future__ import annotations

from statistics import NormalDist
from typing import Final

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

LEAST_PAIRS: Final = 30
_LEAST_STRENGTH: Final = 2.0
_MOST_STRENGTH: Final = 1_000.0


def lower_advantage(
    weights: Array, scores: Array, generalist: int, expected: Array, confidence: float
) -> tuple[Array, NDArray[np.bool_]]:
    """Return lower confidence bounds of each expert's advantage over the generalist in each group.

    Args:
        weights: (n, K), membership of the prompts in the groups.
        scores: (n, m), NaN where there is none.
        generalist: its column.
        expected: (K, m), prior means of the advantage.
        confidence: one-sided level, 0.5 to 1.

    Returns:
        Bounds (K, m), and per expert (m,) whether it shares enough prompts with the generalist for them.

    Source: normal means with a prior whose variance is estimated from the groups (empirical Bayes), by the moment
    estimator of DerSimonian and Laird 1986, doi:10.1016/0197-2456(86)90046-2.
    """
    bounds = np.zeros(expected.shape)
    known = np.zeros(scores.shape[1], dtype=np.bool_)
    z = NormalDist().inv_cdf(confidence) if confidence > 0.5 else 0.0
    for expert in range(scores.shape[1]):
        lead = scores[:, expert] - scores[:, generalist]
        both = np.isfinite(lead)
        known[expert] = both.sum() >= LEAST_PAIRS
        if known[expert] and expert != generalist:
            bounds[:, expert] = _bound(weights[both], lead[both], expected[:, expert], z)
    return bounds, known


def _bound(weights: Array, lead: Array, expected: Array, z: float) -> Array:
    count = weights.sum(axis=0)
    mean = weights.T @ lead / np.maximum(count, 1e-9)
    variance = max(float(lead.var()), 1e-6)
    strength = prior_strength(count, mean - expected, variance)
    posterior = (count * mean + strength * expected) / (count + strength)
    return np.asarray(posterior - z * np.sqrt(variance / (count + strength)))


def prior_strength(count: Array, surprise: Array, variance: float) -> float:
    """Return how many prompts the prior is worth.

    Args:
        count: (K,), prompts of each group.
        surprise: (K,), observed less expected mean.
        variance: of one prompt.
    """
    used = count > 1
    counts, squares = count[used], np.square(surprise[used])
    if len(counts) < 2:
        return _MOST_STRENGTH
    heterogeneity = float((counts * squares).sum()) / variance - len(counts)
    between = heterogeneity * variance / (counts.sum() - np.square(counts).sum() / counts.sum())
    return float(np.clip(variance / between, _LEAST_STRENGTH, _MOST_STRENGTH)) if between > 0 else _MOST_STRENGTH
