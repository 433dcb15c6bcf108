"""Always one expert: the baseline to compare with, as a shadow or for a key."""

from __future__ import annotations

from pydantic import Field

from gateway.policies import Options
from gateway.types import GENERALIST, Candidate, Decision, Reason, RoutingInput


class Policy(Options):
    """One expert for everything that it can take."""

    expert: str = Field(GENERALIST, description="Name of the expert.")

    def named_experts(self) -> tuple[str, ...]:
        """Return the expert."""
        return (self.expert,)

    def choose(self, routing: RoutingInput) -> Decision:
        """Decide as the module says."""
        return routing.take(routing.catalog.experts[self.expert], Reason.FIXED)

    def utility(self, routing: RoutingInput, candidate: Candidate) -> float:
        """Return 1 for the expert, 0 for the others."""
        return float(candidate.expert.name == self.expert)
