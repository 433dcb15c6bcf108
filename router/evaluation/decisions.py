"""What the scorer's own thresholds make of its scores: who answers, how often wrongly, and why no specialist does."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from router.abstention import Abstention, Thresholds, abstain
from router.evaluation.outcomes import GENERALIST_LABELS, Outcomes
from router.evaluation.rounding import mean
from router.evaluation.sets import Rows
from router.scores import DomainScores, ScoreBatch

GENERALIST: Final = "generalist"


@dataclass(frozen=True, slots=True)
class Route:
    """Who should answer one prompt.

    Attributes:
        expert: a specialist domain, or "generalist".
        abstention: why no domain was acted on; None when one was (a confident "general" is acted on too).
    """

    expert: str
    abstention: Abstention | None

    @property
    def to_specialist(self) -> bool:
        """Whether a specialist answers."""
        return self.expert != GENERALIST


@dataclass(frozen=True, slots=True)
class Decisions:
    """Figures of the decisions on one set of prompts; all shares are 0 to 1.

    Attributes:
        count: prompts.
        decided: share not abstained on.
        to_generalist: share sent to the generalist, abstained on or predicted general.
        specialist_prompts: prompts whose label is a specialist domain.
        specialist_precision: of prompts sent to a specialist, the share whose label is that domain.
        specialist_recall: of `specialist_prompts`, the share that reaches a specialist, right or wrong.
        right_specialist: of `specialist_prompts`, the share that reaches its own specialist.
        wrong_specialist: share of all prompts sent to a specialist that their label does not name.
        abstentions: reason to number of prompts; reasons that never came up are 0.
    """

    count: int
    decided: float
    to_generalist: float
    specialist_prompts: int
    specialist_precision: float
    specialist_recall: float
    right_specialist: float
    wrong_specialist: float
    abstentions: dict[str, int]


def route_of(scores: DomainScores, thresholds: Thresholds) -> Route:
    """Return who answers a prompt, by `abstain` and nothing else."""
    reason = abstain(scores, thresholds)
    domain, _ = scores.top()
    return Route(GENERALIST if reason is not None or domain in GENERALIST_LABELS else domain, reason)


def routes_of(scores: ScoreBatch, thresholds: Thresholds) -> list[Route]:
    """Return who answers each of n prompts."""
    return [route_of(row, thresholds) for row in scores]


def decisions(routes: Sequence[Route], outcomes: Outcomes, rows: Rows) -> Decisions:
    """Measure the decisions on some rows of n prompts."""
    sent = _flags([routes[row].to_specialist for row in rows])
    right = outcomes.right[rows]
    is_specialist = _flags([label not in GENERALIST_LABELS for label in outcomes.labels])[outcomes.actual[rows]]
    abstained = Counter(routes[row].abstention for row in rows)
    return Decisions(
        count=len(rows),
        decided=mean(_flags([routes[row].abstention is None for row in rows])),
        to_generalist=mean(~sent),
        specialist_prompts=int(is_specialist.sum()),
        specialist_precision=mean(right[sent]),
        specialist_recall=mean(sent[is_specialist]),
        right_specialist=mean((sent & right)[is_specialist]),
        wrong_specialist=mean(sent & ~right),
        abstentions={reason.value: abstained[reason] for reason in Abstention},
    )


def _flags(values: Sequence[bool]) -> NDArray[np.bool_]:
    return np.array(values, dtype=np.bool_)
