"""Which experts can take a request at all, and why the others cannot. Looks at no scores and prefers nobody.

Two kinds of exclusion, `types.REFUSING` and `types.LAST_RESORT`: what is certain excludes in any case; estimates
(length, language, latency) and servers that are down give way when nobody else is left, because an upstream's own
answer is better than our guess.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gateway.health import Fleet
from gateway.types import LAST_RESORT, REFUSING, Candidate, Capability, Endpoint, Grant, Reason


@dataclass(frozen=True, slots=True)
class Demand:
    """What a request asks of an expert.

    Attributes:
        endpoint: where it came in.
        needs: what the expert must be able to do.
        tokens: estimated prompt tokens plus `max_tokens`.
        language: ISO 639-1 code of the prompt's language; None when it is unknown or nobody cares.
        price_cap: most it may be expected to cost.
        budget_left: what is left of the caller's budget; None without one.
        latency_s: latency objective.
        full: experts that have reached a limit of their own (`quotas.experts`).
    """

    endpoint: Endpoint
    needs: frozenset[Capability] = frozenset()
    tokens: int = 0
    language: str | None = None
    price_cap: float | None = None
    budget_left: float | None = None
    latency_s: float | None = None
    full: frozenset[str] = frozenset()


def exclusion(candidate: Candidate, demand: Demand, grant: Grant, fleet: Fleet) -> Reason | None:
    """Return why an expert cannot take the request, the weightiest reason first; None when it can."""
    expert = candidate.expert
    if demand.endpoint not in expert.serves or not demand.needs <= expert.capabilities:
        return Reason.CAPABILITY
    if grant.experts is not None and expert.name not in grant.experts:
        return Reason.FORBIDDEN
    if _above(candidate.cost, demand.price_cap):
        return Reason.PRICE_CAP
    if _above(candidate.cost, demand.budget_left):
        return Reason.BUDGET
    length = fleet.context_length(expert)
    if length is not None and demand.tokens > length:
        # Before health: when its servers are back it is still too short.
        return Reason.CONTEXT_LENGTH
    state = fleet.state_of(expert)
    if state is not None:
        return state
    if expert.name in demand.full:
        return Reason.SATURATED
    if expert.languages and demand.language is not None and demand.language not in expert.languages:
        return Reason.LANGUAGE
    return Reason.LATENCY if _above(candidate.latency_s, demand.latency_s) else None


def eligible(
    candidates: Sequence[Candidate], demand: Demand, grant: Grant, fleet: Fleet
) -> tuple[tuple[Candidate, ...], dict[str, Reason]]:
    """Split candidates into those that may be chosen and the rest.

    Returns:
        The candidates in their order, none only when every expert is refused for certain; and the excluded experts'
        names with the reason. Who is admitted as a last resort stands in both.
    """
    excluded: dict[str, Reason] = {}
    able = []
    for candidate in candidates:
        reason = exclusion(candidate, demand, grant, fleet)
        if reason is None:
            able.append(candidate)
        else:
            excluded[candidate.expert.name] = reason
    return tuple(able or _last_resort(candidates, excluded, fleet)), excluded


def refusal(excluded: Mapping[str, Reason]) -> Reason:
    """Return the reason to tell a caller whom nobody can serve: the one that the most willing expert has."""
    found = set(excluded.values())
    order = (Reason.BUDGET, Reason.PRICE_CAP, Reason.FORBIDDEN, Reason.CAPABILITY)
    return next(reason for reason in order if reason in found)


def _last_resort(candidates: Sequence[Candidate], excluded: Mapping[str, Reason], fleet: Fleet) -> list[Candidate]:
    for mild in LAST_RESORT:
        found = [candidate for candidate in candidates if excluded[candidate.expert.name] in mild]
        if found:
            return _longest(found, fleet) if Reason.CONTEXT_LENGTH in mild else found
    assert all(reason in REFUSING for reason in excluded.values())
    return []


def _longest(found: Sequence[Candidate], fleet: Fleet) -> list[Candidate]:
    """Keep whoever reads most, of these those that are up: the estimate may be wrong by a little."""
    lengths = [fleet.context_length(candidate.expert) or 0 for candidate in found]
    longest = [candidate for candidate, length in zip(found, lengths, strict=True) if length == max(lengths)]
    return [candidate for candidate in longest if fleet.usable(candidate.expert)] or longest


def _above(expected: float | None, limit: float | None) -> bool:
    return expected is not None and limit is not None and expected > limit
