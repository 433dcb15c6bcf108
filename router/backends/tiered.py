"""Score prompts with one or two tiers, added domains and an out-of-domain score; no torch.

The first tier reads every prompt. When it is not sure enough, and the second can read the language, both decide
together. The out-of-domain score and added domains need the first tier's embedding only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np
from threadpoolctl import ThreadpoolController

from router.abstention import Thresholds
from router.artifact import Card
from router.errors import ArtifactError, ScorerError
from router.explanation import Topics
from router.gates import Gate, combine, gate_logits, load_gate
from router.scores import DomainScores, FloatArray, ScoreBatch
from router.statistics import Mahalanobis, to_percentile
from router.tiers import fast, transformer
from router.tiers.arrays import load_npz
from router.tiers.fast import FastTier
from router.tiers.reading import Reading, Tier
from router.tiers.transformer import TransformerTier

NAME: Final = "tiered"
STATISTICS: Final = "statistics.npz"
DISTANCES: Final = "distances.npz"
TOPICS: Final = "topics.npz"
TIERS: Final[Mapping[str, Callable[..., Tier]]] = {fast.NAME: FastTier, transformer.NAME: TransformerTier}
FILES_OF: Final = {fast.NAME: fast.FILES, transformer.NAME: transformer.FILES}
BOTH: Final = "both"
"""Tier name of prompts that two tiers decided together."""


class Backend:
    """See `router.scores.Scorer` for the contract."""

    def __init__(self, folder: Path, card: Card, *, threads: int = 1) -> None:
        _check_files(folder, card)
        self.labels = card.labels
        self.version = card.version
        self.thresholds: Thresholds = card.thresholds
        self._calibration = card.calibration
        tiers: list[Tier] = [TIERS[name](folder, card, threads=threads) for name in card.tiers]
        self._first = tiers[0]
        self._second = tiers[1] if len(tiers) > 1 else None
        self._gates = _gates(folder, card)
        self._blas = ThreadpoolController()
        self._distance, self._usual = _distances(folder)
        self.topics = _topics(folder, card)
        try:
            self.score(("warm-up",))
        except (ScorerError, ValueError, IndexError) as error:
            raise ArtifactError(folder, f"the model does not run: {error}") from error

    def score(self, texts: Sequence[str]) -> ScoreBatch:
        """Score each text; one prompt always gets the same answer, whatever else is being scored."""
        # The products are small: a second thread would only spin, and take the core the event loop runs on.
        with self._blas.limit(limits=1, user_api="blas"):
            rows = [self._score(text) for text in texts]
        columns = (len(rows), len(self.labels))
        batch = ScoreBatch(
            labels=self.labels,
            probabilities=np.array([row.probabilities for row in rows], dtype=np.float32).reshape(columns),
            out_of_domain=np.array([row.out_of_domain for row in rows], dtype=np.float32),
            disagreement=np.array([row.disagreement for row in rows], dtype=np.float32),
            tiers=tuple(row.tier for row in rows),
            embeddings=np.array([row.embedding for row in rows], dtype=np.float32) if rows else None,
        )
        if not batch.is_sound(len(texts)):
            raise ScorerError("the classifier gave numbers that are not finite")
        return batch

    def embed(self, texts: Sequence[str]) -> FloatArray:
        """Return the first tier's embeddings (n, d), which gates, distances and topics live in."""
        return np.stack([self._first.read(text).embedding for text in texts])

    def _score(self, text: str) -> DomainScores:
        reading = self._first.read(text)
        base = self._calibration.alone(reading.logits[None])
        disagreement = self._disagreement(reading, base)
        tier = self._first.name
        if self._second is not None and self._is_open(reading, base):
            base = self._calibration.together(reading.logits[None], self._second.read(text).logits[None])
            tier = BOTH
        gates = gate_logits(self._gates, reading.embedding[None])
        probabilities = combine(base, gates)[0]
        # What an added domain claims is no longer strange, though the model was not trained on it.
        strange = 0.0 if (gates > 0).any() else self._strangeness(reading)
        return DomainScores(self.labels, probabilities, strange, disagreement, tier, reading.embedding)

    def _strangeness(self, reading: Reading) -> float:
        distance = self._distance.distances(reading.embedding[None])
        return float(to_percentile(distance, self._usual)[0])

    def _is_open(self, reading: Reading, base: FloatArray) -> bool:
        """Tell whether the second tier should be asked."""
        unsure = float(base.max()) < self._calibration.hand_over
        return unsure and reading.readable >= self._calibration.least_readable

    def _disagreement(self, reading: Reading, base: FloatArray) -> float:
        """Return the total variation between the prompt's probabilities with and without its first tokens."""
        if reading.logits_without_head is None:
            return 0.0
        without = self._calibration.alone(reading.logits_without_head[None])
        return float(np.abs(base - without).sum() / 2)


def _check_files(folder: Path, card: Card) -> None:
    if set(card.tiers) - set(TIERS) or len(card.tiers) > 2:
        raise ArtifactError(folder, f"cannot run the tiers {list(card.tiers)}")
    needed = [name for tier in card.tiers for name in FILES_OF[tier]]
    missing = [name for name in (*needed, DISTANCES, *map(gate_file, card.added)) if name not in card.files]
    if missing:
        raise ArtifactError(folder, f"card lists no {', '.join(missing)}")


def gate_file(domain: str) -> str:
    """Return the file name of an added domain."""
    return f"domain.{domain}.npz"


def _gates(folder: Path, card: Card) -> tuple[Gate, ...]:
    return tuple(load_gate(folder / gate_file(name)) for name in card.added)


def _distances(folder: Path) -> tuple[Mahalanobis, FloatArray]:
    """Return the distance and its table of usual values."""
    stored = load_npz(folder, DISTANCES)
    try:
        return Mahalanobis.from_arrays(stored), np.asarray(stored["usual"], dtype=np.float32)
    except (KeyError, ValueError) as error:
        raise ArtifactError(folder, f"{DISTANCES} does not fit: {error}") from error


def _topics(folder: Path, card: Card) -> Topics | None:
    if TOPICS not in card.files:
        return None
    try:
        return Topics.from_arrays(load_npz(folder, TOPICS))
    except (KeyError, ValueError) as error:
        raise ArtifactError(folder, f"{TOPICS} does not fit: {error}") from error
