"""What the scorer must beat, measured on the same prompts with the same figures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from router.errors import DataError
from router.evaluation.metrics import Quality, SourceMean, quality, source_mean
from router.evaluation.outcomes import five_labels, five_probabilities, five_prompts
from router.evaluation.sets import rows_by
from router.prompts import Prompt
from router.scores import FloatArray

BaselineFunction = Callable[[Sequence[str]], FloatArray]
"""From n routing texts to probabilities (n, k), columns in the scorer's order of labels."""

MAJORITY: Final = "majority label"
RANDOM: Final = "uniform random"
_EDGE: Final = 1e-4
"""Lead of the label drawn at random: enough for `argmax`, too little to look confident."""


@dataclass(frozen=True, slots=True)
class Contender:
    """Figures of one way to classify.

    Attributes:
        overall: all prompts, every domain.
        five: the same, collapsed to five domains.
        source_mean: mean over sources, every domain.
        source_mean_five: mean over sources, five domains.
    """

    overall: Quality
    five: Quality
    source_mean: SourceMean
    source_mean_five: SourceMean


def contender(prompts: Sequence[Prompt], probabilities: FloatArray, labels: Sequence[str]) -> Contender:
    """Measure probabilities (n, k) of n prompts pooled and per source, as they are and in five domains."""
    collapsed, domains = five_prompts(prompts), five_labels(labels)
    five = five_probabilities(probabilities, labels)
    return Contender(
        overall=quality(prompts, probabilities, labels),
        five=quality(collapsed, five, domains),
        source_mean=source_mean(quality_by_source(prompts, probabilities, labels)),
        source_mean_five=source_mean(quality_by_source(collapsed, five, domains)),
    )


def quality_by_source(
    prompts: Sequence[Prompt], probabilities: FloatArray, labels: Sequence[str]
) -> dict[str, Quality]:
    """Return the figures of each source on its own."""
    return {
        source: quality([prompts[row] for row in rows], probabilities[rows], labels)
        for source, rows in rows_by(prompt.source for prompt in prompts).items()
    }


def measure_baselines(
    prompts: Sequence[Prompt], labels: Sequence[str], others: Mapping[str, BaselineFunction], seed: int
) -> dict[str, Contender]:
    """Return the figures of the majority label, of a random label, and of `others` by name.

    Raises:
        DataError: one of `others` answers with probabilities of another shape than (n, k).
    """
    table = {MAJORITY: majority_probabilities(prompts, labels), RANDOM: _random(len(prompts), len(labels), seed)}
    texts = [prompt.text for prompt in prompts]
    table |= {name: _checked(name, function(texts), (len(prompts), len(labels))) for name, function in others.items()}
    return {name: contender(prompts, probabilities, labels) for name, probabilities in table.items()}


def majority_accuracy(prompts: Sequence[Prompt]) -> float:
    """Return the accuracy of always answering the commonest label of these prompts, `alt` labels included."""
    counts = _label_counts(prompts)
    return round(max(counts.values()) / len(prompts), 4) if prompts else 0.0


def majority_probabilities(prompts: Sequence[Prompt], labels: Sequence[str]) -> FloatArray:
    """Return (n, k): for every prompt how common each label is among these prompts, a floor that knows no text."""
    counts = _label_counts(prompts)
    shares = np.array([counts[label] for label in labels], dtype=np.float32)
    return np.tile(shares / max(1.0, float(shares.sum())), (len(prompts), 1))


def _label_counts(prompts: Sequence[Prompt]) -> Counter[str]:
    return Counter(label for prompt in prompts for label in {prompt.label, *prompt.alternatives})


def _random(count: int, labels: int, seed: int) -> FloatArray:
    drawn = np.random.default_rng(seed).integers(labels, size=count)
    return ((1 - _EDGE) / labels + _EDGE * np.eye(labels)[drawn]).astype(np.float32)


def _checked(name: str, probabilities: FloatArray, shape: tuple[int, int]) -> FloatArray:
    if probabilities.shape != shape:
        raise DataError(f"baseline {name!r} answers {probabilities.shape}, expected {shape}")
    return probabilities
