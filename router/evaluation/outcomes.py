"""What was predicted and what counts as the truth, and the five-domain view of both; no figures here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from router.prompts import Prompt
from router.scores import FloatArray

GENERALIST_LABELS: Final = frozenset({"general", "other"})
"""Labels no specialist serves: what is predicted as one of them goes to the generalist."""
FIVE_DOMAINS: Final = ("math", "coding", "health", "science", "other")
"""The domains other routers are measured on; every further label is "other" there."""


@dataclass(frozen=True, slots=True, eq=False)
class Outcomes:
    """Predictions on n prompts next to their labels.

    A prediction among a prompt's fair alternatives is taken as that prompt's label.

    Attributes:
        labels: domain names, k of them.
        predicted: int (n,), column of the best domain.
        actual: int (n,), column of the label.
        confidence: float64 (n,), top probability.
    """

    labels: tuple[str, ...]
    predicted: NDArray[np.intp]
    actual: NDArray[np.intp]
    confidence: NDArray[np.float64]

    @property
    def right(self) -> NDArray[np.bool_]:
        """Whether each prediction is right."""
        return np.equal(self.predicted, self.actual)


def outcomes_of(prompts: Sequence[Prompt], probabilities: FloatArray, labels: Sequence[str]) -> Outcomes:
    """Set predictions against labels.

    Args:
        prompts: n prompts whose labels are all among `labels`.
        probabilities: float (n, k).
        labels: k domain names in column order.
    """
    column = {label: index for index, label in enumerate(labels)}
    predicted = probabilities.argmax(axis=1)
    actual = [
        guess if labels[guess] in prompt.alternatives else column[prompt.label]
        for prompt, guess in zip(prompts, predicted.tolist(), strict=True)
    ]
    confidence = probabilities.max(axis=1).astype(np.float64)
    return Outcomes(tuple(labels), predicted, np.array(actual, dtype=np.intp), confidence)


def five_labels(labels: Sequence[str]) -> tuple[str, ...]:
    """Return those of the five domains that `labels` can be collapsed to."""
    present = {_five(label) for label in labels}
    return tuple(domain for domain in FIVE_DOMAINS if domain in present)


def five_prompts(prompts: Sequence[Prompt]) -> list[Prompt]:
    """Return the prompts with label and alternatives collapsed to the five domains."""
    return [
        replace(prompt, label=_five(prompt.label), alternatives=tuple(map(_five, prompt.alternatives)))
        for prompt in prompts
    ]


def five_probabilities(probabilities: FloatArray, labels: Sequence[str]) -> FloatArray:
    """Return probabilities (n, k) summed into the columns of `five_labels(labels)`."""
    domains = five_labels(labels)
    member = np.array([[_five(label) == domain for domain in domains] for label in labels], dtype=np.float32)
    collapsed: FloatArray = probabilities @ member
    return collapsed


def _five(label: str) -> str:
    return label if label in FIVE_DOMAINS else "other"
