"""Weigh rows so that no label and no large source drowns the others; weights, never copies."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

CONFIDENCE: Final[Mapping[str, float]] = {"high": 1.0, "medium": 0.7, "low": 0.25}
"""How much a row counts by how sure its label is; an unknown word counts fully."""


def weights(labels: Sequence[str], sources: Sequence[str], confidences: Sequence[str]) -> list[float]:
    """Return one weight a row; the weights of every label sum to the same, and all of them to the number of rows.

    Within a label the law is a square root: a source with 100 times the rows counts 10 times as much. It weakens
    what a source teaches of its own style without throwing rows away.

    Args:
        labels: n labels.
        sources: n sources.
        confidences: n of "high", "medium", "low".

    Returns:
        n positive numbers.
    """
    rows_of = Counter(zip(labels, sources, strict=True))
    raw = [
        CONFIDENCE.get(confidence, 1.0) / rows_of[label, source] ** 0.5
        for label, source, confidence in zip(labels, sources, confidences, strict=True)
    ]
    sums: dict[str, float] = {}
    for label, weight in zip(labels, raw, strict=True):
        sums[label] = sums.get(label, 0.0) + weight
    share = len(labels) / max(1, len(sums))
    return [weight * share / sums[label] for label, weight in zip(labels, raw, strict=True)]
