"""The two types every classifier shares: what it answers and how it is called; no model lives here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class DomainScores:
    """Calibrated probabilities of one prompt.

    Attributes:
        labels: domain names, in the scorer's order.
        probabilities: float32 (k,), sums to 1; entry j belongs to `labels[j]`.
    """

    labels: tuple[str, ...]
    probabilities: FloatArray

    def top(self) -> tuple[str, float]:
        """Return the best domain and its probability; the first label wins a tie."""
        best = int(np.argmax(self.probabilities))
        return self.labels[best], float(self.probabilities[best])

    def margin(self) -> float:
        """Return the distance between the two best probabilities; 1.0 when there is only one domain."""
        if len(self.labels) < 2:
            return 1.0
        second, first = np.partition(self.probabilities, -2)[-2:]
        return float(first - second)

    def as_dict(self) -> dict[str, float]:
        """Return label to probability, as plain floats."""
        return dict(zip(self.labels, self.probabilities.tolist(), strict=True))


class Scorer(Protocol):
    """Anything that turns texts into domain probabilities.

    Attributes:
        labels: domain names; column j of a result belongs to `labels[j]`.
        version: identifies the model in records; changes when the weights change.
    """

    @property
    def labels(self) -> tuple[str, ...]:
        """Domain names in column order."""

    @property
    def version(self) -> str:
        """Identify the model."""

    def score(self, texts: Sequence[str]) -> FloatArray:
        """Score each text against every domain; synchronous, batch first, safe to call from several threads.

        Args:
            texts: n texts that went through `extract`; any length, "" included.

        Returns:
            float32 (n, k), rows sum to 1.

        Raises:
            ScorerError: the model could not run; callers fall back to the generalist.
        """
