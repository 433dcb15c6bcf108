"""What a classifier answers and how it is called; no model lives here."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from router.abstention import Thresholds

FloatArray = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class DomainScores:
    """What the classifier says of one prompt.

    Attributes:
        labels: domain names, in the scorer's order.
        probabilities: float32 (k,), calibrated, sums to 1; entry j belongs to `labels[j]`.
        out_of_domain: 0 to 1, the share of ordinary held-out prompts that lie nearer to what was trained on.
        disagreement: 0 to 1, how much the probabilities move when the prompt's first tokens are left out
            (total variation); steering prefixes move them.
        tier: the tier of the model that answered.
        embedding: float32 (d,) of length 1, where the scorer embeds; finer cells of a quality table live in its space.
    """

    labels: tuple[str, ...]
    probabilities: FloatArray
    out_of_domain: float = 0.0
    disagreement: float = 0.0
    tier: str = ""
    embedding: FloatArray | None = None

    def top(self) -> tuple[str, float]:
        """Return the best domain and its probability; the first label wins a tie."""
        # Plain floats: for a handful of domains numpy's calls cost more than the comparison.
        probabilities: list[float] = self.probabilities.tolist()
        best = max(probabilities)
        return self.labels[probabilities.index(best)], best

    def margin(self) -> float:
        """Return the distance between the two best probabilities; 1.0 when there is only one domain."""
        if len(self.labels) < 2:
            return 1.0
        second, first = sorted(self.probabilities.tolist())[-2:]
        return float(first - second)

    def as_dict(self) -> dict[str, float]:
        """Return label to probability, as plain floats."""
        return dict(zip(self.labels, self.probabilities.tolist(), strict=True))


@dataclass(frozen=True, slots=True, eq=False)
class ScoreBatch:
    """Scores of n prompts, column-wise; `batch[i]` is one prompt's `DomainScores`.

    Attributes:
        labels: domain names, k of them.
        probabilities: float32 (n, k), rows sum to 1.
        out_of_domain: float32 (n,), 0 to 1.
        disagreement: float32 (n,), 0 to 1.
        tiers: n names of tiers.
        embeddings: float32 (n, d), rows of length 1; None when the scorer does not embed.
    """

    labels: tuple[str, ...]
    probabilities: FloatArray
    out_of_domain: FloatArray
    disagreement: FloatArray
    tiers: tuple[str, ...]
    embeddings: FloatArray | None = None

    @classmethod
    def plain(cls, labels: tuple[str, ...], probabilities: FloatArray, tier: str = "") -> Self:
        """Return a batch of a scorer that knows nothing but probabilities (n, k)."""
        zeros = np.zeros(len(probabilities), dtype=np.float32)
        return cls(labels, probabilities, zeros, zeros, (tier,) * len(probabilities))

    def __len__(self) -> int:
        return len(self.probabilities)

    def __getitem__(self, row: int) -> DomainScores:
        return DomainScores(
            self.labels,
            self.probabilities[row],
            float(self.out_of_domain[row]),
            float(self.disagreement[row]),
            self.tiers[row],
            None if self.embeddings is None else self.embeddings[row],
        )

    def __iter__(self) -> Iterator[DomainScores]:
        return (self[row] for row in range(len(self)))

    def is_sound(self, count: int) -> bool:
        """Tell whether every number is finite and every shape that of `count` prompts."""
        columns = (self.out_of_domain, self.disagreement)
        return (
            self.probabilities.shape == (count, len(self.labels))
            and all(column.shape == (count,) and bool(np.isfinite(column).all()) for column in columns)
            and len(self.tiers) == count
            and (self.embeddings is None or len(self.embeddings) == count)
            and bool(np.isfinite(self.probabilities).all())
            and bool((self.probabilities >= 0).all())
        )


class Scorer(Protocol):
    """Anything that turns texts into domain scores."""

    @property
    def labels(self) -> tuple[str, ...]:
        """Domain names in column order."""

    @property
    def version(self) -> str:
        """Identify the model in records; changes when the weights change."""

    @property
    def thresholds(self) -> Thresholds:
        """When to leave a prompt to the generalist, as fitted with the model."""

    def score(self, texts: Sequence[str]) -> ScoreBatch:
        """Score each text against every domain; synchronous, batch first, safe to call from several threads.

        Args:
            texts: n texts that went through `extract`; any length, "" included.

        Raises:
            ScorerError: the model could not run; callers fall back to the generalist.
        """
