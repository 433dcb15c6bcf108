"""Intervals by drawing prompts anew; the same draws for all that is compared. It knows no experts."""

from __future__ import annotations

from typing import Final

import numpy as np

from router.replay.choices import Floats

_CELLS: Final = 2_000_000
"""Most counts held at once: 16 MB, whatever the number of prompts."""


def bootstrap_means(values: Floats, draws: int, seed: int) -> Floats:
    """Draw n prompts with replacement, again and again, and take the mean of every row over them.

    Args:
        values: float64 (r, n); NaN is left out of a row's mean.
        draws: how often, at least 1.
        seed: seeds the draws; equal seeds draw equal prompts, whatever the rows.

    Returns:
        float64 (draws, r); NaN where a draw met nothing but NaN.

    Source: paired percentile bootstrap, Efron and Tibshirani, An Introduction to the Bootstrap, chapter 13.
    """
    known = ~np.isnan(values)
    filled, weights = np.where(known, values, 0.0).T, known.T.astype(np.float64)
    generator = np.random.default_rng(seed)
    count = values.shape[1]
    means = np.full((draws, len(values)), np.nan)
    for start in range(0, draws, step := max(1, _CELLS // max(1, count))):
        part = means[start : start + step]
        counts = _counts(generator, len(part), count)
        totals = counts @ weights
        np.divide(counts @ filled, totals, out=part, where=totals > 0)
    return means


def interval(means: Floats, level: float = 0.95) -> Floats:
    """Return float64 (r, 2), the middle `level` of bootstrap means (draws, r); NaN where no draw has a mean."""
    edges = np.full((means.shape[1], 2), np.nan)
    for row, column in enumerate(means.T):
        known = column[~np.isnan(column)]
        if len(known):
            edges[row] = np.quantile(known, ((1 - level) / 2, (1 + level) / 2))
    return edges


def _counts(generator: np.random.Generator, draws: int, count: int) -> Floats:
    """Return float64 (draws, count): how often each prompt was drawn."""
    counts = np.empty((draws, count))
    for row in counts:
        row[:] = np.bincount(generator.integers(count, size=count), minlength=count)
    return counts
