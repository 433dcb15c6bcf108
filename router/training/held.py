"""Run the served tiers over held-out prompts: logits for calibration, distances, statistics and topics to ship."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from router.backends.tiered import DISTANCES, STATISTICS, TOPICS
from router.explanation import Topics
from router.prompts import Prompt
from router.scores import FloatArray
from router.statistics import Mahalanobis, Statistics, percentile_curve
from router.tiers.reading import Reading, Tier, unit
from router.training.fitting import Held

RANK: Final = 96
"""Directions kept of the shared covariance: the rest is noise, and each costs time for every prompt."""
_SMALLEST_TOPIC: Final = 4


def read_all(tier: Tier, prompts: Sequence[Prompt]) -> list[Reading]:
    """Return the tier's reading of every prompt."""
    return [tier.read(prompt.text) for prompt in prompts]


def held_logits(
    tiers: Sequence[Tier], prompts: Sequence[Prompt], weights: NDArray[np.float64], labels: Sequence[str]
) -> Held:
    """Return what calibration is fitted on."""
    first = read_all(tiers[0], prompts)
    second = read_all(tiers[1], prompts) if len(tiers) > 1 else None
    return Held(
        first=np.stack([reading.logits for reading in first]),
        second=None if second is None else np.stack([reading.logits for reading in second]),
        readable=np.array([reading.readable for reading in first], dtype=np.float32),
        right=np.array([[label in (p.label, *p.alternatives) for label in labels] for p in prompts]),
        weights=weights,
    )


def write_statistics(
    folder: Path, tier: Tier, trained: Sequence[Prompt], unseen: Sequence[Prompt], labels: Sequence[str]
) -> None:
    """Write the sums that added domains are fitted against, and the distances with their usual values.

    `unseen` prompts set what is usual: of what was trained on, everything would look usual.
    """
    embeddings = np.stack([tier.read(prompt.text).embedding for prompt in trained])
    statistics = Statistics.of(labels, embeddings, [labels.index(prompt.label) for prompt in trained])
    np.savez_compressed(folder / STATISTICS, **statistics.as_arrays())  # type: ignore[arg-type]  # arrays by name
    distance = Mahalanobis.fit(statistics, rank=min(RANK, embeddings.shape[1]))
    usual = percentile_curve(distance.distances(np.stack([tier.read(prompt.text).embedding for prompt in unseen])))
    np.savez(folder / DISTANCES, usual=usual, **distance.as_arrays())  # type: ignore[arg-type]  # arrays by name


def write_topics(folder: Path, tier: Tier, prompts: Sequence[Prompt]) -> bool:
    """Write the mean embedding of every topic of the hand-written prompts; False when too few rows name one."""
    groups: dict[tuple[str, str], list[FloatArray]] = defaultdict(list)
    for prompt in prompts:
        if prompt.topic:
            groups[prompt.label, prompt.topic].append(tier.read(prompt.text).embedding)
    found = {key: rows for key, rows in sorted(groups.items()) if len(rows) >= _SMALLEST_TOPIC}
    if not found:
        return False
    vectors = np.stack([unit(np.mean(rows, axis=0)) for rows in found.values()])
    topics = Topics(tuple(topic for _, topic in found), tuple(label for label, _ in found), vectors)
    np.savez_compressed(folder / TOPICS, **topics.as_arrays())  # type: ignore[arg-type]  # arrays by name
    return True
