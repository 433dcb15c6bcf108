"""Decides one stored request anew with the configuration in use, from its stored scores: no prompt is needed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from gateway.admin.draft import DECIDED_BY_POLICY, Decider
from gateway.generation import Plan


@dataclass(frozen=True, slots=True)
class Again:
    """What would be decided now.

    Attributes:
        expert: for whom; "" when it cannot be told.
        reason: why, a reason code; where it cannot be told, why not, in words.
    """

    expert: str
    reason: str


def decide_again(row: Mapping[str, Any], plan: Plan | None) -> Again:
    """Return what the policy would decide for a stored request, all experts up but those excluded then.

    Args:
        row: as `Queries.page` gives it.
        plan: the configuration in use; None: what it names cannot be read any more.
    """
    if plan is None:
        return Again("", "What the configuration names cannot be read any more.")
    if row["reason"] not in DECIDED_BY_POLICY:
        return Again("", "No policy decided this request, so thresholds and prices change nothing.")
    decider = Decider(plan, plan.scorer.scorer.labels)
    if not row["scores"] and (decider.needs_scores or row["confidence"] is None):
        return Again("", "Too little of its scores is stored.")
    if row["domain"] not in plan.scorer.scorer.labels:
        return Again("", "The classifier in use does not have the domain that was found.")
    stored = {**row, "scores": orjson.dumps(row["scores"]).decode() if row["scores"] else None}
    expert, reason = decider.decide(stored, row["policy"] if row["policy"] != plan.settings.policy.name else None)
    return Again(expert.name, reason.value)
