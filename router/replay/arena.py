"""RouterArena's score: one number for quality and money. Nothing else."""

from __future__ import annotations

from math import log2
from typing import Final

BETA: Final = 0.1
LARGEST_COST: Final = 200.0
"""Dollars per 1,000 requests that count as no merit at all."""
SMALLEST_COST: Final = 0.0044
"""Dollars per 1,000 requests that count as full merit."""


def arena_score(quality: float, cost_per_1000: float) -> float:
    """Return RouterArena's score, 0 to 1: a weighted harmonic mean of quality and of cheapness on a log scale.

    Args:
        quality: mean score, 0 to 1.
        cost_per_1000: dollars per 1,000 requests; beyond RouterArena's bounds it counts as the bound, where the
            original goes on past 0 and 1.

    Source: `compute_arena_score`, RouteWorks/RouterArena `llm_evaluation/run.py` and
    `router_evaluation/compute_scores.py`, arXiv:2510.00202.
    """
    cost = min(max(cost_per_1000, SMALLEST_COST), LARGEST_COST)
    cheapness = (log2(LARGEST_COST) - log2(cost)) / (log2(LARGEST_COST) - log2(SMALLEST_COST))
    weighed = BETA * quality + cheapness
    return (1 + BETA) * quality * cheapness / weighed if weighed > 0 else 0.0
