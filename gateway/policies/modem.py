"""The rule of MoDEM: the best domain's expert, or the generalist where the scores do not carry a specialist.

Source: Mixture of Domain Expert Models, arXiv:2410.07490; abstention is ours (the paper always takes the top
domain). At a threshold itself the expert is taken.
"""

from __future__ import annotations

from gateway.policies import Options
from gateway.types import Decision, DomainScores, Expert, Reason, RoutingInput, abstain


class Policy(Options):
    """Declared domains above their thresholds; no measured quality, no cost."""

    def choose(self, routing: RoutingInput) -> Decision:
        """Decide as the module says."""
        if routing.scores is None:
            return Decision(routing.catalog.generalist, routing.unscored)
        domain, confidence = routing.scores.top()
        expert, reason = self._expert(routing, routing.scores, domain)
        generalist = routing.catalog.generalist
        fallbacks = () if expert is generalist else (generalist,)
        return Decision(expert, reason, fallbacks, domain, confidence)

    def _expert(self, routing: RoutingInput, scores: DomainScores, domain: str) -> tuple[Expert, Reason]:
        generalist = routing.catalog.generalist
        abstention = abstain(scores, routing.thresholds)
        if abstention is not None:
            return generalist, Reason.of(abstention)
        expert = routing.catalog.by_domain.get(domain)
        if expert is None:
            return generalist, Reason.UNCOVERED_DOMAIN
        if expert.name in routing.excluded:
            return generalist, routing.excluded[expert.name]
        return expert, Reason.CONFIDENT
