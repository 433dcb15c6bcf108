"""Fit cells to scored prompts, and keep them only where they choose better on prompts they have not seen.

Two ways to make cells are tried: the groups the outcomes name (task, subject), and clusters of embeddings.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from router.quality.advantage import lower_advantage
from router.quality.cells import PROBE, Cells
from router.quality.clusters import discriminants, memberships, spherical_kmeans, unit_means
from router.quality.sample import Sample
from router.quality.table import QualityTable
from router.scores import FloatArray, Scorer

Indices = NDArray[np.intp]
Fit = Callable[[Sample], QualityTable]

LEAST_IN_GROUP: Final = 30
"""Prompts a named group needs to be a cell of its own; the others share one."""
PROMPTS_PER_CLUSTER: Final = 50
LEAST_PROMPTS: Final = 200
"""Different prompts below which cells are not looked for."""
MOST_CELLS: Final = 64
_MOST_CLUSTERS: Final = 32
_GENERALIST_PRIOR: Final = 10.0
_FAMILIAR: Final = (0.02, 0.20)
"""Quantiles of the similarity of fitted prompts between which cells begin to count and fully do. On task families left
out of the fit, cells without this lost 3 points of quality to the generalist, and with it 0.1; known ones lost 0.2."""
_FOLDS: Final = 5


@dataclass(frozen=True, slots=True, eq=False)
class Partition:
    """Cells before anything is measured: names, and the cell (n,) of every prompt."""

    names: tuple[str, ...]
    of: Indices


Partitioning = Callable[[Sample], Partition | None]


def best_cells(sample: Sample, fit: Fit, generalist: int, scorer: Scorer) -> Cells | None:
    """Return the cells that choose best on held-out folds, None when none beats domains by more than chance.

    Args:
        sample: prompts; those without embeddings are left out.
        fit: fits a table of domains to a part of the sample.
        generalist: its column.
        scorer: whose embeddings they are.
    """
    if sample.embeddings is None:
        return None
    sample = sample.rows(sample.embeddings.any(axis=1))
    if len(np.unique(sample.keys)) < LEAST_PROMPTS or not np.isfinite(sample.scores[:, generalist]).any():
        return None
    named, clustered = _held_out_gain(sample, fit, named_groups), _held_out_gain(sample, fit, clusters)
    if max(named, clustered) <= 0:
        return None
    # What people named holds better than what a few thousand prompts suggest, unless the figures are clear.
    make = named_groups if named >= clustered / 2 else clusters
    probe = scorer.score((PROBE,)).embeddings
    return None if probe is None else fit_cells(sample, fit(sample), make(sample), probe[0], scorer.version)


def named_groups(sample: Sample) -> Partition | None:
    """Return the groups the outcomes name as cells; None when fewer than two have prompts enough."""
    names, groups, counts = np.unique(np.array(sample.groups), return_inverse=True, return_counts=True)
    order = [index for index in np.argsort(-counts) if counts[index] >= LEAST_IN_GROUP and names[index]]
    kept = order[: MOST_CELLS - 1]
    if len(kept) < 2:
        return None
    cell_of = np.full(len(names), len(kept), dtype=np.intp)
    cell_of[kept] = np.arange(len(kept))
    return _partition([*(str(names[index]) for index in kept), "others"], cell_of[groups])


def clusters(sample: Sample) -> Partition | None:
    """Return clusters of embeddings as cells; None when there are too few prompts for two."""
    size = min(_MOST_CLUSTERS, len(sample) // PROMPTS_PER_CLUSTER)
    if sample.embeddings is None or size < 2:
        return None
    return _partition([f"cluster {number + 1}" for number in range(size)], spherical_kmeans(sample.embeddings, size))


def fit_cells(
    sample: Sample, table: QualityTable, partition: Partition | None, probe: FloatArray, version: str
) -> Cells | None:
    """Measure quality in each cell, shrunk to what the domains of its prompts say; None without a partition.

    Args:
        sample: prompts with embeddings.
        table: of domains, fitted to the same sample.
        partition: cells of the sample.
        probe: embedding of `PROBE`.
        version: of the scorer.
    """
    if partition is None or sample.embeddings is None or len(partition.names) < 2:
        return None
    size, generalist = len(partition.names), table.experts.index(table.generalist)
    directions, offsets = discriminants(sample.embeddings, partition.of, size)
    weights = memberships(sample.embeddings, directions, offsets)
    count = weights.sum(axis=0)
    profile = weights.T @ sample.weights / np.maximum(count, 1e-9)[:, np.newaxis]
    centres = unit_means(sample.embeddings, partition.of, size)
    low, high = np.quantile(((weights @ centres) * sample.embeddings).sum(axis=1), _FAMILIAR)
    return Cells(
        names=partition.names,
        experts=table.experts,
        labels=table.labels,
        generalist=table.generalist,
        scorer=version,
        projection=np.concatenate([directions, centres]),
        bias=offsets,
        lower=_lower(sample, table, weights, profile, generalist).astype(np.float32),
        profile=profile.astype(np.float32),
        count=count.astype(np.float32),
        familiar=np.array([low, max(high, low + 1e-3)], dtype=np.float32),
        probe=probe,
    )


def _lower(
    sample: Sample,
    table: QualityTable,
    weights: NDArray[np.float64],
    profile: NDArray[np.float64],
    generalist: int,
) -> NDArray[np.float64]:
    """Return lower bounds (K, m); the generalist's column holds its mean."""
    scored = np.isfinite(sample.scores[:, generalist])
    own = weights[scored].T @ sample.scores[scored, generalist]
    count = weights[scored].sum(axis=0)
    base = (own + _GENERALIST_PRIOR * (profile @ table.mean[:, generalist])) / (count + _GENERALIST_PRIOR)
    expected = profile @ (table.mean - table.mean[:, [generalist]])
    bounds, known = lower_advantage(weights, sample.scores, generalist, expected, table.confidence)
    return np.where(known, np.clip(base[:, np.newaxis] + bounds, 0, 1), profile @ table.lower)


def _held_out_gain(sample: Sample, fit: Fit, make: Partitioning) -> float:
    """Return what the cells gain in mean score over domains on held-out folds, less one standard error.

    0 or less when they do not gain. Equal prompts are in one fold, and count once.
    """
    if make(sample) is None:
        return 0.0
    prompts, prompt = np.unique(sample.keys, return_inverse=True)
    fold_of = np.random.default_rng(0).permutation(len(prompts))[prompt] % _FOLDS
    gains = np.zeros(len(sample))
    for fold in range(_FOLDS):
        held_out = fold_of == fold
        gains[held_out] = _gains(sample.rows(~held_out), sample.rows(held_out), fit, make)
    means = np.bincount(prompt, weights=gains) / np.bincount(prompt)
    return float(means.mean() - means.std() / np.sqrt(len(means)))


def _gains(fitted: Sample, held_out: Sample, fit: Fit, make: Partitioning) -> NDArray[np.float64]:
    table = fit(fitted)
    assert fitted.embeddings is not None
    assert held_out.embeddings is not None
    cells = fit_cells(fitted, table, make(fitted), np.zeros(fitted.embeddings.shape[1], np.float32), "")
    if cells is None:
        return np.zeros(len(held_out))
    probabilities = held_out.weights.astype(np.float32)
    plain = table.expect_all(probabilities)
    refined = cells.refine_all(plain, probabilities, held_out.embeddings)
    return _chosen(held_out, refined) - _chosen(held_out, plain)


def _chosen(sample: Sample, expected: FloatArray) -> NDArray[np.float64]:
    """Return the scores of the experts expected to be best among those that were scored, 0 where none was."""
    choice = np.where(np.isfinite(sample.scores), expected, -1).argmax(axis=1)
    return np.nan_to_num(np.take_along_axis(sample.scores, choice[:, np.newaxis], axis=1)[:, 0])


def _partition(names: list[str], cells: Indices) -> Partition:
    """Return the partition without empty cells."""
    used, of = np.unique(cells, return_inverse=True)
    return Partition(tuple(names[index] for index in used), of.astype(np.intp))
