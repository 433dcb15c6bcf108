"""Whether changes that do not matter move a prompt to another expert."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from router.evaluation.decisions import route_of
from router.evaluation.perturbations import PERTURBATIONS, perturbed
from router.evaluation.rounding import mean
from router.prompts import Prompt, share_of
from router.scores import Scorer

SAMPLE: Final = 300
"""Prompts perturbed by default: six versions of each cost as much as 2,100 prompts."""
_REPORT_EVERY: Final = 100


@dataclass(frozen=True, slots=True)
class Consistency:
    """How often the route (a specialist domain, or the generalist after abstention) stays.

    Attributes:
        count: prompts that were perturbed.
        all_same: share whose route is the same for the original and all six versions.
        perturbations: perturbation to the share whose route stays.
    """

    count: int
    all_same: float
    perturbations: dict[str, float]


def consistency(
    scorer: Scorer,
    prompts: Sequence[Prompt],
    *,
    sample: int = SAMPLE,
    seed: int = 7,
    progress: Callable[[str], None] = lambda line: None,
) -> Consistency:
    """Route a seeded sample of the prompts and six versions of each."""
    chosen = sorted(prompts, key=lambda prompt: share_of(_key(prompt), seed))[:sample]
    same = np.zeros((len(chosen), len(PERTURBATIONS)), dtype=np.int8)
    for row, prompt in enumerate(chosen):
        versions = [perturbed(prompt.text, name, f"{seed}:{_key(prompt)}") for name in PERTURBATIONS]
        original, *others = (route_of(scores, scorer.thresholds) for scores in scorer.score([prompt.text, *versions]))
        same[row] = [route.expert == original.expert for route in others]
        if (row + 1) % _REPORT_EVERY == 0:
            progress(f"perturbed {row + 1} of {len(chosen)}")
    return Consistency(
        count=len(chosen),
        all_same=mean(same.min(axis=1)),
        perturbations={name: mean(same[:, column]) for column, name in enumerate(PERTURBATIONS)},
    )


def _key(prompt: Prompt) -> str:
    return prompt.key or prompt.text
