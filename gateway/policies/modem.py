"""The rule of MoDEM: the best domain's expert, or the generalist where the scores do not carry a specialist.

Source: Mixture of Domain Expert Models, arXiv:2410.07490; abstention is ours (the paper always takes the top
domain). At a threshold itself the expert is taken.
"""

from __future__ import annotations

from gateway.policies import Options
from gateway.types import Candidate, Decision, Reason, RoutingInput, abstain


class Policy(Options):
    """Declared domains above their thresholds; no measured quality, no cost."""

    def choose(self, routing: RoutingInput) -> Decision:
        """Decide as the module says."""
        catalog, scores = routing.catalog, routing.scores
        if scores is None:
            return routing.take(catalog.generalist, routing.unscored)
        abstention = abstain(scores, routing.thresholds)
        if abstention is not None:
            return routing.take(catalog.generalist, Reason.of(abstention))
        expert = catalog.by_domain.get(scores.top()[0])
        if expert is None:
            return routing.take(catalog.generalist, Reason.UNCOVERED_DOMAIN)
        return routing.take(expert, Reason.CONFIDENT)

    def utility(self, routing: RoutingInput, candidate: Candidate) -> float:
        """Return the probability of the domains that the candidate answers; those of no expert are the generalist's."""
        if routing.scores is None:
            return 0.0
        generalist, owners = routing.catalog.generalist, routing.catalog.by_domain
        shares = zip(routing.scores.labels, routing.scores.probabilities.tolist(), strict=True)
        return float(sum(p for domain, p in shares if owners.get(domain, generalist) is candidate.expert))
