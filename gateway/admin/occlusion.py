"""Which words of a prompt decided, by scoring it again without them, behind the requests of callers. Keeps nothing.

A scorer may be called from its own thread only, so all goes through its queue, a few texts at a time: callers' prompts
come in between, and wait for a few texts at most.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

import router
from gateway.scoring import AsyncScorer
from gateway.types import Reason
from router import DomainScores, Explanation, ScoreBatch, ScorerError, Thresholds

AT_ONCE = 2
LIMIT_S = 6.0
WORDS = 40


async def words_of(scorer: AsyncScorer, text: str) -> Explanation | None:
    """Return what the words of a routing text do and which training topics are near; None: the scorer was too busy.

    At most two rounds of 41 texts are scored; what that is exactly says `router.explain`.
    """
    behind = _Behind(scorer, asyncio.get_running_loop(), time.monotonic() + LIMIT_S)
    try:
        return await asyncio.to_thread(router.explain, behind, text, words=WORDS)
    except ScorerError:
        return None


class _Behind:
    """A scorer for another thread, that asks one on the event loop."""

    def __init__(self, scorer: AsyncScorer, loop: asyncio.AbstractEventLoop, until_s: float) -> None:
        self._scorer = scorer
        self._loop = loop
        self._until_s = until_s

    @property
    def labels(self) -> tuple[str, ...]:
        """The domains."""
        return self._scorer.labels

    @property
    def version(self) -> str:
        """Of the model."""
        return self._scorer.scorer.version

    @property
    def thresholds(self) -> Thresholds:
        """As fitted."""
        return self._scorer.thresholds

    @property
    def topics(self) -> object:
        """Training topics; None when it has none."""
        return getattr(self._scorer.scorer, "topics", None)

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return the embeddings (n, d) of n texts; ScorerError when there are none."""
        rows = [row.embedding for row in self._scored(texts)]
        if any(row is None for row in rows):
            raise ScorerError("the scorer shows no embedding")
        return np.stack([row for row in rows if row is not None])

    def score(self, texts: Sequence[str]) -> ScoreBatch:
        """Return the scores of n texts; ScorerError when the scorer is busy, late or failing."""
        rows = self._scored(texts)
        return ScoreBatch(
            labels=self.labels,
            probabilities=np.stack([row.probabilities for row in rows]),
            out_of_domain=np.array([row.out_of_domain for row in rows], dtype=np.float32),
            disagreement=np.array([row.disagreement for row in rows], dtype=np.float32),
            tiers=tuple(row.tier for row in rows),
        )

    def _scored(self, texts: Sequence[str]) -> list[DomainScores]:
        found: list[DomainScores] = []
        for start in range(0, len(texts), AT_ONCE):
            left_s = self._until_s - time.monotonic()
            if left_s <= 0:
                raise ScorerError("it took too long")
            asked = asyncio.run_coroutine_threadsafe(self._some(texts[start : start + AT_ONCE]), self._loop)
            try:
                found += asked.result(left_s)
            except TimeoutError as error:
                asked.cancel()
                raise ScorerError("it took too long") from error
        return found

    async def _some(self, texts: Sequence[str]) -> list[DomainScores]:
        # A prompt of one word has nothing left without it; a blank is what the scorer takes for nothing.
        rows = await asyncio.gather(*(self._scorer.score(text or " ") for text in texts))
        found = [row for row in rows if not isinstance(row, Reason)]
        if len(found) < len(rows):
            raise ScorerError("the scorer was too busy, or failed")
        return found
