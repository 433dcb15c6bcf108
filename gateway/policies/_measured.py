"""What the policies share that weigh measured quality: the rule without a table, abstention, the order of fallbacks."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from gateway.policies import Options, modem
from gateway.types import Candidate, Decision, Reason, RoutingInput, abstain

MOST_FALLBACKS = 2
# Expected quality already weighs how sure the scores are; that they mean nothing at all it cannot know.
_STRANGE = frozenset({Reason.OUT_OF_DOMAIN, Reason.DISAGREEMENT})


class Measured(Options):
    """Base of the policies that choose by utility; without a quality table they decide as `modem` does."""

    abstain: Literal["strange", "unsure", "never"] = Field(
        "strange",
        description="When the generalist answers whatever is expected: `strange` (out of domain, disagreement), "
        "`unsure` (also low confidence and small margin), `never`.",
    )

    def choose(self, routing: RoutingInput) -> Decision:
        """Take the best candidate, or the generalist by abstention."""
        if routing.scores is None or routing.reference.quality is None:
            return modem.Policy().choose(routing)
        reason = self._abstention(routing)
        if reason is not None:
            return routing.take(routing.catalog.generalist, reason)
        utilities = self.utilities(routing)
        # Stable: of equals the first comes first, the generalist.
        order = sorted(range(len(utilities)), key=lambda index: -utilities[index])
        best, *others = (routing.candidates[index] for index in order[: MOST_FALLBACKS + 1])
        return routing.take(best.expert, self.reason(routing, best), tuple(other.expert for other in others))

    def utility(self, routing: RoutingInput, candidate: Candidate) -> float:
        """Return `_utility`, or the rule's of `modem` without a quality table."""
        if routing.scores is None or routing.reference.quality is None:
            return modem.Policy().utility(routing, candidate)
        return self._utility(routing, candidate)

    def utilities(self, routing: RoutingInput) -> list[float]:
        """Return the utility of every candidate."""
        if routing.scores is None or routing.reference.quality is None:
            return modem.Policy().utilities(routing)
        return [self._utility(routing, candidate) for candidate in routing.candidates]

    def reason(self, routing: RoutingInput, best: Candidate) -> Reason:
        """Return why the best candidate is chosen."""
        return Reason.EXPECTED_QUALITY

    def _utility(self, routing: RoutingInput, candidate: Candidate) -> float:
        raise NotImplementedError

    def _abstention(self, routing: RoutingInput) -> Reason | None:
        # Without the generalist there is nobody to leave the prompt to.
        if self.abstain == "never" or routing.scores is None or routing.candidate(routing.reference.expert) is None:
            return None
        abstention = abstain(routing.scores, routing.thresholds)
        if abstention is None:
            return None
        reason = Reason.of(abstention)
        return reason if self.abstain == "unsure" or reason in _STRANGE else None


def quality_of(candidate: Candidate) -> float:
    """Return the expected quality; an expert that the table does not know is expected to be worst."""
    return candidate.quality if candidate.quality is not None else 0.0


def relative_cost(routing: RoutingInput, candidate: Candidate) -> float:
    """Return the expected cost in units of the generalist's for the same request; 1 where a price is missing."""
    reference = routing.reference.cost
    if candidate.cost is None or reference is None:
        return 1.0
    if reference <= 0:
        return 1.0 if candidate.cost <= 0 else 1.0 + candidate.cost
    return candidate.cost / reference
