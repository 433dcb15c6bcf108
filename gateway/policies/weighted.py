"""Splits traffic between experts by share, for comparing them. Looks at no scores.

A conversation always falls to the same expert, or all that a key sends does: a person who meets both would compare
them, which is not what is measured.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from gateway.policies import Options
from gateway.types import Candidate, Decision, Expert, Reason, RoutingInput, draw_of

Weight = Annotated[float, Field(ge=0, le=1e6)]


class Policy(Options):
    """An A/B split; without shares everything is the generalist's."""

    shares: dict[str, Weight] = Field({}, description="Expert to its share of the traffic; shares need not sum to 1.")
    sticky: Literal["session", "key"] = Field(
        "session",
        description="What always falls to the same expert: a conversation (one text where there is none), or all that "
        "a key sends; callers without keys count as one.",
    )

    def named_experts(self) -> tuple[str, ...]:
        """Return the experts that have a share."""
        return tuple(self.shares)

    def choose(self, routing: RoutingInput) -> Decision:
        """Decide as the module says; who fell to an expert that cannot take the request is split among the others."""
        experts = [expert for name, expert in routing.catalog.experts.items() if self.shares.get(name, 0.0) > 0]
        if not experts:
            return routing.take(routing.catalog.generalist, Reason.SPLIT)
        draw = routing.draw if self.sticky == "session" else draw_of(routing.key)
        fallen = self._fallen(draw, experts)
        able = [expert for expert in experts if routing.candidate(expert) is not None]
        if able and fallen not in able:
            fallen = self._fallen(draw, able)
        return routing.take(fallen, Reason.SPLIT)

    def _fallen(self, draw: float, experts: list[Expert]) -> Expert:
        left = draw * sum(self.shares[expert.name] for expert in experts)
        for expert in experts:
            left -= self.shares[expert.name]
            if left < 0:
                return expert
        return experts[-1]

    def utility(self, routing: RoutingInput, candidate: Candidate) -> float:
        """Return 1 for the expert whose turn it is, 0 for the others."""
        return float(self.choose(routing).expert is candidate.expert)

    def utilities(self, routing: RoutingInput) -> list[float]:
        """Return the utility of every candidate; whose turn it is, is worked out once."""
        chosen = self.choose(routing).expert
        return [float(candidate.expert is chosen) for candidate in routing.candidates]
