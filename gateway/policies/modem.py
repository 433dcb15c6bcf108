"""The rule of MoDEM: the best domain's expert when its probability passes the threshold, else the generalist.

Source: Mixture of Domain Expert Models, arXiv:2410.07490; abstention is ours (the paper always takes the top
domain). At the threshold itself the expert is taken.
"""

from __future__ import annotations

from gateway.policies import Options
from gateway.types import Decision, Expert, Reason, RoutingInput


class Policy(Options):
    """Declared domains above one threshold; no measured quality, no cost."""

    def choose(self, routing: RoutingInput) -> Decision:
        """Decide as the module says."""
        if routing.scores is None:
            return Decision(routing.catalog.generalist, routing.unscored)
        domain, confidence = routing.scores.top()
        expert, reason = self._expert(routing, domain, confidence)
        generalist = routing.catalog.generalist
        fallbacks = () if expert is generalist else (generalist,)
        return Decision(expert, reason, fallbacks, domain, confidence)

    def _expert(self, routing: RoutingInput, domain: str, confidence: float) -> tuple[Expert, Reason]:
        assert routing.scores is not None
        generalist = routing.catalog.generalist
        if confidence < routing.thresholds.minimum_confidence:
            return generalist, Reason.LOW_CONFIDENCE
        if routing.scores.margin() < routing.thresholds.minimum_margin:
            return generalist, Reason.SMALL_MARGIN
        expert = routing.catalog.by_domain.get(domain)
        if expert is None:
            return generalist, Reason.UNCOVERED_DOMAIN
        if expert.name in routing.excluded:
            return generalist, routing.excluded[expert.name]
        return expert, Reason.CONFIDENT
