"""What `experts.yaml` says of deciding: classifier, policies, shadow, canary."""

from __future__ import annotations

from typing import Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from gateway import policies
from gateway.settings.common import Name, Seconds, Share, Strict


class RouterSettings(Strict):
    """The classifier."""

    artifact: str = Field("default", description="`default` (shipped) or a folder made by `pointsman train`.")
    minimum_confidence: Share | None = Field(
        None,
        description="Below this the generalist answers, in every domain; left out: each domain's fitted threshold.",
    )
    thresholds: dict[Name, Share] = Field({}, description="The same for single domains, by name.")
    minimum_margin: Share | None = Field(
        None, description="Smallest lead of the best domain over the second; left out: as fitted."
    )
    maximum_out_of_domain: Share | None = Field(
        None, description="How unlike the training data a prompt may be; 1 turns the check off; left out: as fitted."
    )
    maximum_disagreement: Share | None = Field(
        None,
        description="How far scores may move without the first tokens; 1 turns the check off; left out: as fitted.",
    )
    deadline_s: Seconds = Field(0.15, description="After this the generalist answers without a score.")
    threads: int = Field(1, ge=1, le=64, description="Threads of one classifier run.")
    batch_size: int = Field(8, ge=1, le=256, description="Most prompts in one classifier run.")
    queue_size: int = Field(256, ge=1, le=65_536, description="Prompts that may wait for the classifier.")


class PolicyChoice(BaseModel):
    """A policy and its options; which options there are is the policy's own business."""

    model_config = ConfigDict(extra="allow", frozen=True, allow_inf_nan=False)
    name: Name = Field("modem", description="Which policy decides.")

    @field_validator("name")
    @classmethod
    def _known(cls, name: str) -> str:
        policies.policy_class(name)
        return name

    @model_validator(mode="after")
    def _options_fit(self) -> Self:
        policies.load(self.name, self.options)
        return self

    @property
    def options(self) -> dict[str, object]:
        """All keys that are not settings of every policy."""
        return dict(self.model_extra or {})

    def load(self) -> policies.Policy:
        """Build the policy."""
        return policies.load(self.name, self.options)


class PolicySettings(PolicyChoice):
    """The policy that decides, and what holds whichever does."""

    quality_table: str | None = Field(
        None,
        description="CSV made by `pointsman quality fit`, relative to this file; without it declared domains decide.",
    )
    price_cap: float | None = Field(
        None, ge=0, description="Most that one request may be expected to cost, in `currency`."
    )
    latency_s: Seconds | None = Field(
        None, description="Latency objective: expected time to the answer, or to a stream's first token."
    )
    specialist_fallback: bool = Field(
        True,
        description="Behind the generalist other experts that can take the request are tried, up to two fallbacks in "
        "all; off: the generalist's failure is told.",
    )
    completion_tokens: float = Field(
        300, gt=0, le=1_000_000, description="Length of an answer while nothing better is known."
    )


class CanarySettings(Strict):
    """A part of the traffic that is decided by something new."""

    share: Share = Field(description="Share of the conversations, 0 to 1.")
    artifact: str | None = Field(None, description="Its classifier; left out: the live one.")
    quality_table: str | None = Field(None, description="Its quality table; left out: the live one.")
    policy: PolicyChoice | None = Field(None, description="Its policy; left out: the live one.")
