"""The best expected quality, whatever it costs."""

from __future__ import annotations

from gateway.policies._measured import Measured, quality_of
from gateway.types import Candidate, RoutingInput


class Policy(Measured):
    """Measured quality only; decides as `modem` does without a quality table."""

    def _utility(self, routing: RoutingInput, candidate: Candidate) -> float:
        return quality_of(candidate)
