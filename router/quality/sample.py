"""The rows a quality table is fitted on, as arrays. It must not know how the fit works."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Final, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from router.errors import QualityError
from router.features import extract_text
from router.outcomes.table import OutcomeTable
from router.scores import FloatArray, ScoreBatch, Scorer

Array = NDArray[np.float64]
_BATCH: Final = 256


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """n scored prompts.

    Attributes:
        labels: k domains.
        weights: float64 (n, k), how far each prompt belongs to each domain; rows sum to 1, or to less where the
            outcomes say that they count less.
        embeddings: float32 (n, d), zeros for rows without a prompt; None when the scorer does not embed.
        scores: float64 (n, m), NaN where there is none.
        groups: n names, "" when unknown.
        keys: int (n,), equal for equal prompts.
    """

    labels: tuple[str, ...]
    weights: Array
    embeddings: FloatArray | None
    scores: Array
    groups: tuple[str, ...]
    keys: NDArray[np.intp]

    def __len__(self) -> int:
        return len(self.scores)

    def rows(self, indices: ArrayLike) -> Self:
        """Return some rows (indices or a mask)."""
        chosen = np.arange(len(self))[np.asarray(indices)]
        return replace(
            self,
            weights=self.weights[chosen],
            embeddings=None if self.embeddings is None else self.embeddings[chosen],
            scores=self.scores[chosen],
            groups=tuple(self.groups[row] for row in chosen),
            keys=self.keys[chosen],
        )


def sample_of(outcomes: OutcomeTable, scorer: Scorer | None) -> Sample:
    """Place every prompt of the outcomes in the domains: by its given label, else by the scorer.

    Raises:
        QualityError: a label is not one of the scorer's, or a prompt has neither label nor scorer.
        ScorerError: the model could not run.
    """
    given = sorted({domain for domain in outcomes.domains if domain is not None})
    labels = tuple(given) if scorer is None else scorer.labels
    for label in given:
        if label not in labels:
            raise QualityError(f"no domain {label!r} in {', '.join(labels)}{did_you_mean(label, labels)}")
    scored = [row for row, prompt in enumerate(outcomes.prompts) if prompt.strip()] if scorer is not None else []
    weights = np.zeros((len(outcomes), len(labels)))
    embeddings: FloatArray | None = None
    if scorer is not None and scored:
        probabilities, found = score_all(scorer, [outcomes.prompts[row] for row in scored])
        weights[scored] = probabilities
        if found is not None:
            embeddings = np.zeros((len(outcomes), found.shape[1]), dtype=np.float32)
            embeddings[scored] = found
    for row, domain in enumerate(outcomes.domains):
        if domain is not None:
            weights[row] = np.arange(len(labels)) == labels.index(domain)
    if outcomes.weights is not None:
        weights *= outcomes.weights[:, np.newaxis]
    if not (weights.sum(axis=1) > 0).all():
        raise QualityError("some rows name no domain; a scorer is needed to find it")
    texts = [prompt or f"\0{row}" for row, prompt in enumerate(outcomes.prompts)]
    keys = np.unique(np.array(texts, dtype=object), return_inverse=True)[1]
    return Sample(labels, weights, embeddings, outcomes.scores, outcomes.groups, keys)


def score_all(scorer: Scorer, prompts: Sequence[str]) -> tuple[FloatArray, FloatArray | None]:
    """Return probabilities (n, k) and embeddings (n, d) of raw prompts; embeddings are None when there are none."""
    batches: list[ScoreBatch] = []
    for start in range(0, len(prompts), _BATCH):
        texts = [extract_text(prompt).text for prompt in prompts[start : start + _BATCH]]
        batches.append(scorer.score(texts))
    embeddings = [batch.embeddings for batch in batches if batch.embeddings is not None]
    probabilities: FloatArray = np.concatenate([batch.probabilities for batch in batches])
    return probabilities, np.concatenate(embeddings) if len(embeddings) == len(batches) else None


def did_you_mean(name: str, names: Sequence[str]) -> str:
    """Return a hint at the name that was meant, "" when none is near."""
    close = get_close_matches(name, names, n=1)
    return f"; did you mean {close[0]!r}?" if close else ""
