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
        return self._shares(routing).get(candidate.expert.name, 0.0)

    def utilities(self, routing: RoutingInput) -> list[float]:
        """Return the utility of every candidate: one look at the probabilities for all of them."""
        shares = self._shares(routing)
        return [shares.get(candidate.expert.name, 0.0) for candidate in routing.candidates]

    def _shares(self, routing: RoutingInput) -> dict[str, float]:
        shares: dict[str, float] = {}
        if routing.scores is None:
            return shares
        generalist, owners = routing.catalog.generalist, routing.catalog.by_domain
        for domain, share in zip(routing.scores.labels, routing.scores.probabilities.tolist(), strict=True):
            name = owners.get(domain, generalist).name
            shares[name] = shares.get(name, 0.0) + share
        return shares
