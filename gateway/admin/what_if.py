"""What other thresholds would have done to stored requests. Reads rows as they come; decides nothing that counts.

Only decisions that hung on thresholds are taken anew: those of the reasons below, with the figures that were stored
and the order of `router.abstain`. A moved request is priced at the other expert's prices for the same tokens, which
assumes answers of the same length.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from gateway.types import Catalog, Expert, Reason
from router import Thresholds

MOVABLE = frozenset(
    {
        Reason.CONFIDENT.value,
        Reason.LOW_CONFIDENCE.value,
        Reason.SMALL_MARGIN.value,
        Reason.OUT_OF_DOMAIN.value,
        Reason.DISAGREEMENT.value,
    }
)


@dataclass(slots=True)
class _Side:
    """Requests and costs as they were, or as they would have been."""

    experts: Counter[str] = field(default_factory=Counter)
    cost: float = 0.0

    def described(self) -> dict[str, Any]:
        total = max(1, self.experts.total())
        shares = {name: round(count / total, 6) for name, count in self.experts.most_common()}
        return {"requests": dict(self.experts.most_common()), "share": shares, "cost": round(self.cost, 9)}


def compare(rows: Iterable[Mapping[str, Any]], thresholds: Thresholds, catalog: Catalog) -> dict[str, Any]:
    """Return how stored requests were spread and what they cost, and how they would have been.

    Args:
        rows: stored requests, as `Queries` returns them.
        thresholds: the ones to try.
        catalog: the experts and their prices now.
    """
    before, after = _Side(), _Side()
    looked_at = movable = to_specialist = to_generalist = unpriced = 0
    for row in rows:
        decided, cost = row["decided"], row["cost"]
        if decided is None:
            continue
        looked_at += 1
        new = decided
        if row["reason"] in MOVABLE and row["domain"] is not None and row["confidence"] is not None:
            movable += 1
            new = _decide(row, thresholds, catalog).name
        moved = new != decided
        to_generalist += moved and new == catalog.generalist.name
        to_specialist += moved and new != catalog.generalist.name
        new_cost = _cost(row, catalog.experts.get(new)) if moved else cost
        before.experts[decided] += 1
        after.experts[new] += 1
        if cost is None or new_cost is None:
            unpriced += 1
            continue
        before.cost += cost
        after.cost += new_cost
    return {
        "requests": looked_at,
        "movable": movable,
        "moved_to_specialist": to_specialist,
        "moved_to_generalist": to_generalist,
        "unpriced": unpriced,
        "before": before.described(),
        "after": after.described(),
    }


def _decide(row: Mapping[str, Any], thresholds: Thresholds, catalog: Catalog) -> Expert:
    domain = row["domain"]
    abstains = (
        row["confidence"] < thresholds.of(domain)
        or _figure(row, "margin", 1.0) < thresholds.margin
        or _figure(row, "out_of_domain", 0.0) > thresholds.out_of_domain
        or _figure(row, "disagreement", 0.0) > thresholds.disagreement
    )
    return catalog.generalist if abstains else catalog.by_domain.get(domain, catalog.generalist)


def _figure(row: Mapping[str, Any], name: str, otherwise: float) -> float:
    value = row[name]
    return otherwise if value is None else float(value)


def _cost(row: Mapping[str, Any], expert: Expert | None) -> float | None:
    tokens = row["input_tokens"]
    if expert is None or expert.price is None or tokens is None or row["cost"] is None:
        return None
    price = expert.price
    return float((tokens * price.input + (row["output_tokens"] or 0) * price.output) / 1e6 + (row["extra_cost"] or 0.0))
