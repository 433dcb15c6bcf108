"""Keeps a conversation with its expert unless a change gains more than it costs. Pure; finds no sessions itself.

A change costs the cached prefix, and an expert that has not seen the conversation may answer otherwise. What speaks
for one is measured in two ways, because policies count in units of their own: the gain in the policy's utility, and
the probability that the task is now another. Of measured quality a new task moves a few hundredths, of the
probabilities of domains more than half.
"""

from __future__ import annotations

from dataclasses import replace

from gateway.policies import Policy
from gateway.sessions import Session
from gateway.settings import SessionSettings
from gateway.types import LAST_RESORT, REFUSING, Candidate, Decision, Expert, Reason, RoutingInput

NO_EVIDENCE = frozenset(
    {Reason.NO_TEXT, Reason.SCORER_ERROR, Reason.SCORER_TIMEOUT, Reason.OUT_OF_DOMAIN, Reason.DISAGREEMENT}
)
"""Abstentions without scores, or with scores that mean nothing: they say nothing of a new task either."""
BY_DEFAULT = frozenset({Reason.LOW_CONFIDENCE, Reason.SMALL_MARGIN}).union(REFUSING, *LAST_RESORT)
"""The generalist for want of somebody better: unsure (but the scores are calibrated), or the wanted expert is excluded.

Its utility says nothing then. `uncovered_domain` is not among them: the task is known, and the generalist's.
"""

_OVERRULED = frozenset({Reason.LATENCY, Reason.LANGUAGE})
"""What does not open a locked tool loop: the expert can take the request, it is only not wanted for it."""


def stay(
    decision: Decision,
    routing: RoutingInput,
    policy: Policy,
    session: Session,
    *,
    tool_loop: bool,
    settings: SessionSettings,
) -> Decision:
    """Return the decision, or one to stay with the session's expert.

    Args:
        decision: what `policy` chose anew.
        routing: what it chose from.
        policy: for the utility of both experts.
        session: the conversation's.
        tool_loop: the request brings a tool's result, and no human has said anything since.
        settings: what a change must gain.
    """
    current = routing.catalog.experts.get(session.expert)
    if current is None:
        return decision
    candidate = routing.candidate(current)
    if tool_loop and (candidate is not None or routing.excluded.get(current.name) in _OVERRULED):
        return _keep(decision, routing, current, Reason.TOOL_LOCK)
    if candidate is None or decision.expert is current:
        return decision
    if _gains(decision, routing, policy, session, candidate, settings.margin_for(session.tokens)):
        return decision
    return _keep(decision, routing, current, Reason.SESSION)


def _gains(
    decision: Decision, routing: RoutingInput, policy: Policy, session: Session, current: Candidate, margin: float
) -> bool:
    if decision.reason in NO_EVIDENCE:
        return False
    moved = _moved(routing, session, current.expert)
    chosen = routing.candidate(decision.expert)
    if decision.reason in BY_DEFAULT or chosen is None:
        return moved > margin
    gain = policy.utility(routing, chosen) - policy.utility(routing, current)
    return gain > margin or (gain > 0 and moved > margin)


def _moved(routing: RoutingInput, session: Session, expert: Expert) -> float:
    """Return how much likelier the best domain is than all that speak for staying; 0 without scores.

    For staying speak the domain that the conversation was about and those of its expert.
    """
    scores = routing.scores
    if scores is None:
        return 0.0
    owners, generalist = routing.catalog.by_domain, routing.catalog.generalist
    shares = zip(scores.labels, scores.probabilities.tolist(), strict=True)
    staying = sum(p for domain, p in shares if domain == session.domain or owners.get(domain, generalist) is expert)
    return float(scores.top()[1] - staying)


def _keep(decision: Decision, routing: RoutingInput, expert: Expert, reason: Reason) -> Decision:
    """Decide for the expert; whoever was chosen anew is its first fallback, the generalist the last."""
    others = [other for other in (decision.expert, *decision.fallbacks) if other is not expert]
    others.sort(key=lambda other: other is routing.catalog.generalist)
    return replace(decision, expert=expert, reason=reason, fallbacks=tuple(others))
