"""A scorer with embeddings that a test can predict, and outcomes whose quality hangs on places finer than domains."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from router import OutcomeTable, ScoreBatch, Thresholds
from router.scores import FloatArray

LABELS: Final = ("general", "math")
SPOTS: Final = ("algebra", "geometry", "trivia", "cooking")
EXPERTS: Final = ("generalist", "solver")
SIZE: Final = 16


@dataclass(frozen=True)
class SpotScorer:
    """Prompts "SPOT NUMBER" lie near an axis of their own; algebra and geometry are math. Other words lie elsewhere."""

    labels: tuple[str, ...] = LABELS
    version: str = "spots-1"
    thresholds: Thresholds = field(default_factory=Thresholds)
    size: int = SIZE
    turned: bool = False

    def score(self, texts: Sequence[str]) -> ScoreBatch:
        rows = [self._row(text) for text in texts]
        zeros = np.zeros(len(texts), dtype=np.float32)
        return ScoreBatch(
            self.labels,
            np.array([row[0] for row in rows], dtype=np.float32).reshape(len(texts), len(self.labels)),
            zeros,
            zeros,
            ("fast",) * len(texts),
            np.array([row[1] for row in rows], dtype=np.float32).reshape(len(texts), self.size),
        )

    def _row(self, text: str) -> tuple[list[float], FloatArray]:
        spot, _, number = text.partition(" ")
        axis = SPOTS.index(spot) if spot in SPOTS else len(SPOTS)
        random = np.random.default_rng([axis, int(number) if number.isdigit() else len(text)])
        embedding = random.normal(scale=0.1, size=self.size)
        embedding[self.size - 1 - axis if self.turned else axis] += 1.0
        is_math = spot in SPOTS[:2]
        return [0.1, 0.9] if is_math else [0.9, 0.1], (embedding / np.linalg.norm(embedding)).astype(np.float32)


def spot_outcomes(each: int = 200, *, helps: bool = True, named: bool = True, seed: int = 0) -> OutcomeTable:
    """Return outcomes of `each` prompts per spot: the solver is much better in algebra, as much worse in geometry."""
    random = np.random.default_rng(seed)
    prompts = tuple(f"{spot} {number}" for spot in SPOTS for number in range(each))
    share = {"algebra": 0.9, "geometry": 0.3} if helps else {}
    own = random.random(len(prompts)) < 0.6
    other = [random.random() < share.get(prompt.split()[0], 0.55) for prompt in prompts]
    groups = tuple(prompt.split()[0] if named else "" for prompt in prompts)
    scores = np.column_stack([own, other]).astype(np.float64)
    return OutcomeTable(prompts, (None,) * len(prompts), groups, EXPERTS, scores)
