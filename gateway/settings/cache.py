"""What `experts.yaml` says of the response cache: whether answers are kept, whose, how long and how many."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from gateway.settings.common import Seconds, Strict

RECORDED_SHARE = 4
"""Streams under way may hold one part in so many of `memory_bytes`."""


class CacheSettings(Strict):
    """Answers to requests whose answer is always the same, kept in memory, by process."""

    enabled: bool = Field(
        False, description="Answer a deterministic request again from memory when it comes again, word for word."
    )
    scope: Literal["per_key", "shared"] = Field(
        "per_key",
        description="Whose answers a caller may get: `per_key` its own key's, `shared` those of all keys, who then "
        "learn from the speed what others have asked.",
    )
    ttl_s: Seconds = Field(300, description="How long an answer is given again.")
    entries: int = Field(
        10_000, ge=1, le=10_000_000, description="Most answers kept; the least recently used go first."
    )
    memory_bytes: int = Field(
        67_108_864, ge=65_536, le=2**40, description="Most memory for them, streams that are being kept included."
    )
    answer_bytes: int = Field(262_144, ge=1, le=2**30, description="Largest answer kept.")

    @model_validator(mode="after")
    def _answers_fit(self) -> Self:
        if self.answer_bytes > self.memory_bytes // RECORDED_SHARE:
            raise ValueError(f"answer_bytes must not be above memory_bytes / {RECORDED_SHARE}")
        return self
