"""What `experts.yaml` says of conversations: how long they are remembered, and what a change of expert must gain."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from gateway.settings.common import Seconds, Share, Strict


class SessionSettings(Strict):
    """Conversations stay with their expert unless a change gains enough.

    The defaults come from the 60 conversations of `tests/gateway/conversations.jsonl` and the shipped classifier: no
    turn that goes on with a task spoke for another expert at all; of those that begin a new one, nine in ten gained
    0.8 and more, 19 in 20 gained 0.3. That is the limit, so that a new task is followed in long conversations too.
    """

    enabled: bool = Field(
        True, description="Conversations stay with their expert; off: every request is decided alone."
    )
    idle_s: Seconds = Field(1800, description="After so long without a request a conversation is forgotten.")
    capacity: int = Field(
        10_000, ge=1, le=1_000_000, description="Most turns remembered, by process; the least recently used go first."
    )
    margin: Share = Field(
        0.1, description="What another expert must gain, in the policy's utility or in probability of its domain."
    )
    margin_per_1000_tokens: Share = Field(
        0.01, description="How much more for every 1,000 tokens that the expert's server may have cached."
    )
    margin_limit: Share = Field(0.3, description="Most that a change must gain, however much is cached.")

    @model_validator(mode="after")
    def _limit_holds(self) -> Self:
        if self.margin > self.margin_limit:
            raise ValueError("margin must not be above margin_limit")
        return self

    def margin_for(self, cached_tokens: int) -> float:
        """Return what a change of expert must gain."""
        return min(self.margin_limit, self.margin + self.margin_per_1000_tokens * cached_tokens / 1000)
