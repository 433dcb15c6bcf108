"""Fit a quality table to outcomes. No files, and no model but the scorer that is handed in."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from router.errors import QualityError
from router.outcomes.table import Array, OutcomeTable
from router.quality.cell_fitting import best_cells
from router.quality.sample import Sample, did_you_mean, sample_of
from router.quality.table import CONFIDENCE, GENERALIST, PRIOR, QualityTable
from router.scores import Scorer


def fit_quality(
    outcomes: OutcomeTable,
    *,
    scorer: Scorer | None = None,
    generalist: str | None = None,
    prior: float = PRIOR,
    confidence: float = CONFIDENCE,
    cells: bool = True,
) -> QualityTable:
    """Measure every expert in every domain.

    A prompt counts for the domain the outcomes give, else for each domain with the scorer's probability; where the
    outcomes have weights, so much of it.

    Args:
        outcomes: per-prompt scores.
        scorer: places prompts without a given domain; its labels are the table's domains.
        generalist: the expert the others are shrunk to; None takes "generalist", else the best of those that were
            scored on half of the prompts or more.
        prior: prompts that the prior is worth.
        confidence: one-sided level of the lower bounds.
        cells: look for places finer than domains; they are kept only when they choose better on held-out prompts.

    Raises:
        QualityError: names do not fit, or nothing was measured of the generalist.
        ScorerError: the model could not run.
    """
    chosen = _generalist(outcomes, generalist)
    sample = sample_of(outcomes, scorer)

    def fit(part: Sample) -> QualityTable:
        score, count = _measured(part.weights, part.scores)
        return QualityTable.of(part.labels, outcomes.experts, chosen, score, count, prior=prior, confidence=confidence)

    table = fit(sample)
    found = best_cells(sample, fit, outcomes.experts.index(chosen), scorer) if cells and scorer is not None else None
    return replace(table, cells=found, completion_tokens=_lengths(sample, outcomes.output_tokens))


def _generalist(outcomes: OutcomeTable, wanted: str | None) -> str:
    if wanted is not None and wanted not in outcomes.experts:
        names = ", ".join(outcomes.experts)
        raise QualityError(f"no expert {wanted!r} in {names}{did_you_mean(wanted, outcomes.experts)}")
    if wanted is not None or GENERALIST in outcomes.experts:
        return wanted or GENERALIST
    scored = np.isfinite(outcomes.scores)
    means = np.nan_to_num(outcomes.scores).sum(axis=0) / np.maximum(scored.sum(axis=0), 1)
    common = scored.mean(axis=0) >= min(0.5, scored.mean(axis=0).max())
    return outcomes.experts[int(np.argmax(np.where(common, means, -1.0)))]


def _measured(weights: Array, values: Array) -> tuple[Array, Array]:
    """Return weighted means and counts (k, m) of values (n, m) by domain; NaN and 0 where there is none."""
    count = weights.T @ np.isfinite(values)
    # What is left of a probability near 0 is no measurement.
    count[count < 0.05] = 0.0
    total = weights.T @ np.nan_to_num(values)
    mean = np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)
    return np.minimum(mean, 1.0) if np.nanmax(values, initial=0.0) <= 1 else mean, count


def _lengths(sample: Sample, tokens: Array | None) -> Array | None:
    """Return the mean length (k,) of answers; domains without any get the mean of all."""
    if tokens is None or not np.isfinite(tokens).any():
        return None
    mean, count = _measured(sample.weights, tokens)
    total = (np.nan_to_num(mean) * count).sum(axis=1)
    return np.where(count.sum(axis=1) > 0, total / np.maximum(count.sum(axis=1), 1e-9), np.nanmean(tokens))
