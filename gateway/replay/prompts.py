"""Reads and scores the prompts of outcomes once, as serving would. Decides nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

import router
from router import DomainScores, Features, OutcomeTable, ScoreBatch, Scorer, Thresholds

BATCH = 256


class RememberingScorer:
    """A scorer that scores every text once: fitting tables asks for the same prompts again."""

    def __init__(self, scorer: Scorer) -> None:
        self._scorer = scorer
        self._known: dict[str, DomainScores] = {}

    @property
    def labels(self) -> tuple[str, ...]:
        """Domain names in column order."""
        return self._scorer.labels

    @property
    def version(self) -> str:
        """That of the scorer behind it."""
        return self._scorer.version

    @property
    def thresholds(self) -> Thresholds:
        """Those of the scorer behind it."""
        return self._scorer.thresholds

    def score(self, texts: Sequence[str]) -> ScoreBatch:
        """Score each text; see `router.Scorer`."""
        fresh = list(dict.fromkeys(text for text in texts if text not in self._known))
        if fresh:
            self._known.update(zip(fresh, self._scorer.score(fresh), strict=True))
        found = [self._known[text] for text in texts]
        embeddings = [scores.embedding for scores in found if scores.embedding is not None]
        return ScoreBatch(
            labels=self.labels,
            probabilities=np.array([scores.probabilities for scores in found], np.float32),
            out_of_domain=np.array([scores.out_of_domain for scores in found], np.float32),
            disagreement=np.array([scores.disagreement for scores in found], np.float32),
            tiers=tuple(scores.tier for scores in found),
            embeddings=np.array(embeddings, np.float32) if len(embeddings) == len(texts) else None,
        )


@dataclass(frozen=True, slots=True)
class Prompts:
    """n prompts as policies see them.

    Attributes:
        labels: k domains.
        features: n features.
        scores: n scores; None where there is nothing to score.
    """

    labels: tuple[str, ...]
    features: tuple[Features, ...]
    scores: tuple[DomainScores | None, ...]

    def top(self) -> list[int]:
        """Return the column of each prompt's best domain, k where nothing was scored."""
        count = len(self.labels)
        return [count if scores is None else int(np.argmax(scores.probabilities)) for scores in self.scores]


def read_prompts(outcomes: OutcomeTable, scorer: Scorer, progress: Callable[[str], None]) -> Prompts:
    """Extract and score every prompt; where there is only a domain, the scores are sure of it.

    Raises:
        router.ScorerError: the model could not run.
    """
    features = [router.extract_text(prompt) for prompt in outcomes.prompts]
    scores: list[DomainScores | None] = []
    for start in range(0, len(features), BATCH):
        scores += scorer.score([read.text for read in features[start : start + BATCH]])
        if (start // BATCH) % 10 == 9:
            progress(f"{len(scores)} of {len(features)} prompts scored")
    for row, (read, domain) in enumerate(zip(features, outcomes.domains, strict=True)):
        if not read.text:
            scores[row] = None if domain not in scorer.labels else certain(scorer.labels, scorer.labels.index(domain))
    return Prompts(scorer.labels, tuple(features), tuple(scores))


def certain(labels: tuple[str, ...], domain: int) -> DomainScores:
    """Return scores that are sure of a domain."""
    return DomainScores(labels, np.eye(len(labels), dtype=np.float32)[domain])
