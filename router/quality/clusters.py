"""Groups of prompts by embedding: k-means where nobody names them, and the discriminant that finds them again."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from router.scores import FloatArray
from router.statistics import Statistics

Indices = NDArray[np.intp]

SHRINKAGE: Final = 0.5
"""Of the covariance to the identity. Found on held-out halves: more pays than `oas_shrinkage`, which reads the group
right as often but is too sure of it."""
SHARPNESS: Final = 0.5
"""Factor on the discriminants, for the same reason."""
_ROUNDS: Final = 25


def spherical_kmeans(embeddings: FloatArray, size: int, seed: int = 0) -> Indices:
    """Return the cluster 0 to size - 1 of each row (n, d) of length 1; some may be empty.

    Source: Dhillon and Modha 2001, doi:10.1023/A:1007612920971; begun as in k-means++ (Arthur and Vassilvitskii 2007).
    """
    centres = _begin(embeddings, size, np.random.default_rng(seed))
    nearest = np.zeros(len(embeddings), dtype=np.intp)
    for _ in range(_ROUNDS):
        before, nearest = nearest, (embeddings @ centres.T).argmax(axis=1)
        if (before == nearest).all():
            break
        means = unit_means(embeddings, nearest, size)
        centres = np.where(means.any(axis=1, keepdims=True), means, centres)
    return nearest


def unit_means(embeddings: FloatArray, groups: Indices, size: int) -> FloatArray:
    """Return the means (size, d) of the rows of each group, scaled to length 1; zeros for an empty group."""
    sums = np.zeros((size, embeddings.shape[1]), dtype=np.float32)
    np.add.at(sums, groups, embeddings)
    lengths = np.linalg.norm(sums, axis=1, keepdims=True)
    means: FloatArray = np.divide(sums, lengths, out=np.zeros_like(sums), where=lengths > 0)
    return means


def discriminants(embeddings: FloatArray, groups: Indices, size: int) -> tuple[FloatArray, FloatArray]:
    """Return directions (size, d) and offsets (size,) whose softmax is the probability of each group.

    Every group needs a row.

    Source: linear discriminant analysis, Hastie et al., The Elements of Statistical Learning, section 4.3.
    """
    statistics = Statistics.of([str(group) for group in range(size)], embeddings, groups)
    means = statistics.means()
    directions = np.linalg.solve(statistics.within_covariance(SHRINKAGE), means.T).T
    offsets = np.log(statistics.counts / statistics.total) - (directions * means).sum(axis=1) / 2
    return (SHARPNESS * directions).astype(np.float32), (SHARPNESS * offsets).astype(np.float32)


def memberships(embeddings: FloatArray, directions: FloatArray, offsets: FloatArray) -> NDArray[np.float64]:
    """Return the probability (n, size) of each group for each row."""
    logits = (embeddings @ directions.T + offsets).astype(np.float64)
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


def _begin(embeddings: FloatArray, size: int, random: np.random.Generator) -> FloatArray:
    chosen = [int(random.integers(len(embeddings)))]
    distance = 1 - embeddings @ embeddings[chosen[0]]
    for _ in range(size - 1):
        weights = np.clip(distance, 0, None).astype(np.float64)
        total = weights.sum()
        row = random.choice(len(embeddings), p=weights / total) if total > 0 else random.integers(len(embeddings))
        chosen.append(int(row))
        distance = np.minimum(distance, 1 - embeddings @ embeddings[row])
    centres: FloatArray = embeddings[chosen]
    return centres
