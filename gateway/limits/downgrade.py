"""Which experts are left for a request whose key is near the end of its budget. Pure; knows no budgets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gateway.types import Candidate, Reason


def cheapest(
    candidates: Sequence[Candidate], excluded: Mapping[str, Reason]
) -> tuple[tuple[Candidate, ...], dict[str, Reason]]:
    """Keep the candidates of the lowest expected cost, and exclude the others for the budget's sake.

    An expert without a price costs the key nothing.

    Args:
        candidates: at least one.
        excluded: those that are out already.

    Returns:
        What `eligibility.eligible` returns: at least one candidate, and why the others are none.
    """
    least = min(candidate.cost or 0.0 for candidate in candidates)
    kept = tuple(candidate for candidate in candidates if (candidate.cost or 0.0) <= least)
    names = {candidate.expert.name for candidate in kept}
    dearer = {c.expert.name: Reason.BUDGET for c in candidates if c.expert.name not in names}
    return kept, {**excluded, **dearer}
