"""The cheapest expert that is good enough, measured against the generalist."""

from __future__ import annotations

from pydantic import Field

from gateway.policies._measured import Measured, quality_of, relative_cost
from gateway.types import Candidate, Reason, RoutingInput

# Above the floor quality only breaks ties of cost; bound by this share of the generalist's cost.
_TIE = 1e-6


class Policy(Measured):
    """Cost above a floor of measured quality; decides as `modem` does without a quality table."""

    quality_floor: float = Field(
        0.97, ge=0, le=2, description="Least expected quality, as a share of the generalist's for the same prompt."
    )

    def reason(self, routing: RoutingInput, best: Candidate) -> Reason:
        """Return the floor, unless nobody reaches it."""
        return Reason.QUALITY_FLOOR if quality_of(best) >= self._floor(routing) else Reason.EXPECTED_QUALITY

    def _utility(self, routing: RoutingInput, candidate: Candidate) -> float:
        """Return 1 less the cost, squeezed into 0 to 1; below the floor minus the shortfall."""
        quality, floor = quality_of(candidate), self._floor(routing)
        if quality < floor:
            return quality - floor - 1
        return 1 / (1 + relative_cost(routing, candidate)) + _TIE * quality

    def _floor(self, routing: RoutingInput) -> float:
        return self.quality_floor * quality_of(routing.reference)
