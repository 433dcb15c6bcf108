"""Whether a score tells prompts for the generalist from prompts for specialists: AUROC and FPR at 95 % TPR."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from router.evaluation.outcomes import GENERALIST_LABELS
from router.evaluation.rounding import rounded
from router.prompts import Prompt
from router.scores import ScoreBatch

ODD_SOURCES: Final = frozenset({"odd", "steering"})
_TRUE_POSITIVES: Final = 0.95
_WORD: Final = re.compile(r"[a-z]+")


@dataclass(frozen=True, slots=True)
class Separation:
    """How well one score tells the two groups apart; None when one of them is empty.

    Attributes:
        auroc: probability that a prompt for the generalist scores higher than one of the rest; ties count half.
        fpr_at_95_tpr: share of the rest caught by the threshold that catches 95 % of the generalist's prompts.
    """

    auroc: float | None
    fpr_at_95_tpr: float | None


@dataclass(frozen=True, slots=True)
class OutOfDomain:
    """Separation of the prompts no specialist should get from all others.

    Attributes:
        generalist_prompts: prompts labelled "general" or "other", or from a source whose name holds the word
            "odd" or "steering".
        other_prompts: all others.
        out_of_domain: separation by the scorer's `out_of_domain`.
        low_confidence: separation by 1 minus the top probability.
    """

    generalist_prompts: int
    other_prompts: int
    out_of_domain: Separation
    low_confidence: Separation


def out_of_domain(prompts: Sequence[Prompt], scores: ScoreBatch) -> OutOfDomain:
    """Measure both scores on n prompts."""
    positive = np.array([_for_generalist(prompt) for prompt in prompts], dtype=np.bool_)
    return OutOfDomain(
        generalist_prompts=int(positive.sum()),
        other_prompts=int((~positive).sum()),
        out_of_domain=separation(scores.out_of_domain, positive),
        low_confidence=separation(1 - scores.probabilities.max(axis=1), positive),
    )


def separation(values: NDArray[Any], positive: NDArray[np.bool_]) -> Separation:
    """Measure n scores, of which those of `positive` rows should be higher."""
    inside, outside = values[positive], values[~positive]
    if not len(inside) or not len(outside):
        return Separation(None, None)
    return Separation(_auroc(values, positive), _false_positives(inside, outside))


def _auroc(values: NDArray[Any], positive: NDArray[np.bool_]) -> float:
    """Return the Mann-Whitney statistic, from mean ranks."""
    _, group, sizes = np.unique(values, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(sizes) - (sizes - 1) / 2)[group]
    inside, outside = int(positive.sum()), int((~positive).sum())
    return rounded((ranks[positive].sum() - inside * (inside + 1) / 2) / (inside * outside))


def _false_positives(inside: NDArray[Any], outside: NDArray[Any]) -> float:
    needed = math.ceil(round(_TRUE_POSITIVES * len(inside), 6))
    threshold = np.sort(inside)[len(inside) - needed]
    return rounded((outside >= threshold).mean())


def _for_generalist(prompt: Prompt) -> bool:
    return prompt.label in GENERALIST_LABELS or bool(ODD_SOURCES & set(_WORD.findall(prompt.source.lower())))
