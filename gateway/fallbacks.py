"""Who is left when the wanted or the decided expert cannot answer. Pure; knows nothing of servers and tries nobody."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice

from gateway.policies import Policy
from gateway.types import LAST_RESORT, NEVER_NEXT, REFUSING, Decision, Expert, Reason, RoutingInput

MOST_FALLBACKS = 2
"""A chain this long is not made longer: while everything fails, every further try is load on what is left."""
_EXCLUSIONS = REFUSING.union(*LAST_RESORT)


def chosen_by(policy: Policy, routing: RoutingInput) -> Decision:
    """Let a policy choose; when whom it wants and the generalist are out, the best of the others by utility answers.

    `RoutingInput.take` knows no utility and would give the first of the catalog.
    """
    decision = policy.choose(routing)
    if decision.reason not in _EXCLUSIONS or decision.expert is routing.catalog.generalist:
        return decision
    utilities = policy.utilities(routing)
    best = routing.candidates[utilities.index(max(utilities))].expert
    return replace(decision, expert=best, fallbacks=tuple(e for e in decision.fallbacks if e is not best))


def with_specialists(
    decision: Decision, routing: RoutingInput, policy: Policy | None, most: int = MOST_FALLBACKS
) -> Decision:
    """Return the decision with others behind its own fallbacks, until there are `most`: an answer beats a 503.

    In order: those that may be chosen, by utility (without a policy in the catalog's order), then those that only an
    estimate speaks against.
    """
    room = most - len(decision.fallbacks)
    if room <= 0:
        return decision
    known = {decision.expert.name, *(expert.name for expert in decision.fallbacks)}
    others = (expert for expert in _others(routing, policy) if expert.name not in known)
    following = (*decision.fallbacks, *islice(others, room))
    return Decision(decision.expert, decision.reason, following, decision.domain, decision.confidence)


def embedding_decision(routing: RoutingInput, domain: str | None) -> Decision:
    """Decide for an expert to embed, up or down, affordable or not.

    Vectors of different models do not compare, so nothing that changes from one request to the next may change the
    model: neither the text, nor a failure, nor money. Only experts with the same model are fallbacks.

    Args:
        routing: the candidates, at least one.
        domain: the domain that was asked for; its expert embeds, if it does at all, else the catalog's first that does.
    """
    experts, excluded = routing.catalog.experts, routing.excluded
    expert, reason = None if domain is None else routing.catalog.by_domain[domain], Reason.REQUESTED_DOMAIN
    if expert is None or excluded.get(expert.name) is Reason.CAPABILITY:
        never, reason = (Reason.CAPABILITY, Reason.FORBIDDEN), Reason.CAPABILITY
        expert = next(other for name, other in experts.items() if excluded.get(name) not in never)
    alike = (other for other in experts.values() if other.model == expert.model and other is not expert)
    following = tuple(other for other in alike if excluded.get(other.name) not in NEVER_NEXT)
    return Decision(expert, reason, following, domain)


def _others(routing: RoutingInput, policy: Policy | None) -> Iterator[Expert]:
    candidates = routing.candidates
    order: Sequence[int] = range(len(candidates))
    if policy is not None:
        utilities = policy.utilities(routing)
        order = sorted(order, key=utilities.__getitem__, reverse=True)
    for index in order:
        yield candidates[index].expert
    for name, reason in routing.excluded.items():
        if reason in LAST_RESORT[0] and routing.candidate(routing.catalog.experts[name]) is None:
            yield routing.catalog.experts[name]
