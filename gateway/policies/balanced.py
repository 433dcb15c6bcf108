"""Expected quality less the weighed expected cost.

The cost is counted in units of the generalist's for the same request, so that `cost_weight` means the same whatever the
currency and the length: at 0.2 an expert at half the generalist's price may be 0.1 worse.
"""

from __future__ import annotations

from pydantic import Field

from gateway.policies._measured import Measured, quality_of, relative_cost
from gateway.types import Candidate, RoutingInput


class Policy(Measured):
    """Measured quality against cost; decides as `modem` does without a quality table."""

    cost_weight: float = Field(
        0.08, ge=0, le=1_000, description="Quality that is given up to save what the generalist would have cost."
    )

    def _utility(self, routing: RoutingInput, candidate: Candidate) -> float:
        return quality_of(candidate) - self.cost_weight * relative_cost(routing, candidate)
