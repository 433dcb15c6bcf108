"""The words of the decision: experts, catalog, input, decision, reason. Values only, no behaviour that waits.

Policies import this module and nothing else of ours, so a policy can be read and tested alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

from router import Abstention, Features, Thresholds

# For policies, which import nothing else of ours.
from router import DomainScores as DomainScores
from router import abstain as abstain

GENERALIST = "generalist"
"""The generalist's name in `model`, headers, metrics and records."""

Capability = Literal["tools", "structured_output", "logprobs", "reasoning", "vision", "audio", "files"]
TEXT_CAPABILITIES: frozenset[Capability] = frozenset({"tools", "structured_output", "logprobs", "reasoning"})


class Endpoint(StrEnum):
    """The data-plane endpoints, by the word used in `serves`, metrics and records."""

    CHAT = "chat"
    COMPLETIONS = "completions"
    RESPONSES = "responses"
    MESSAGES = "messages"
    EMBEDDINGS = "embeddings"

    @property
    def path(self) -> str:
        """The path, the same on both sides of the gateway."""
        return "/v1/chat/completions" if self is Endpoint.CHAT else f"/v1/{self.value}"


class Reason(StrEnum):
    """Why an expert was chosen. One closed set for headers, records, metrics and pages."""

    PINNED = "pinned"
    """The client named the expert."""
    REQUESTED_DOMAIN = "requested_domain"
    """The client named the domain (`auto/math`)."""
    CONFIDENT = "confident"
    """The best domain's expert, above the confidence threshold."""
    UNCOVERED_DOMAIN = "uncovered_domain"
    """The best domain belongs to no expert: the generalist."""
    LOW_CONFIDENCE = "low_confidence"
    """The best domain's probability is below its threshold: the generalist."""
    SMALL_MARGIN = "small_margin"
    """The two best domains are closer than `router.minimum_margin`: the generalist."""
    OUT_OF_DOMAIN = "out_of_domain"
    """The prompt is unlike what the classifier was trained on (`router.maximum_out_of_domain`): the generalist."""
    DISAGREEMENT = "disagreement"
    """The scores hang on the prompt's first words (`router.maximum_disagreement`): the generalist."""
    CAPABILITY = "capability"
    """The wanted expert lacks something the request needs, or does not serve the endpoint."""
    UNHEALTHY = "unhealthy"
    """No server of the wanted expert is up: the generalist."""
    NO_TEXT = "no_text"
    """Nothing to classify (only system, tool or non-text content): the generalist."""
    SCORER_ERROR = "scorer_error"
    """The classifier failed: the generalist."""
    SCORER_TIMEOUT = "scorer_timeout"
    """The classifier missed its deadline, or its queue is full: the generalist."""

    @classmethod
    def of(cls, abstention: Abstention) -> Reason:
        """Return the reason of an abstention: it has the same name."""
        return cls(abstention.value)


@dataclass(frozen=True, slots=True)
class Price:
    """Prices of an expert, in the catalog's currency per million tokens."""

    input: float
    output: float


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Limits of one upstream request, in seconds; see `settings.TimeoutSettings`."""

    connect_s: float
    first_token_s: float
    idle_s: float
    total_s: float


@dataclass(frozen=True, slots=True)
class Upstream:
    """One server address of an expert. Experts that share a server share the address (LoRA adapters)."""

    url: str


@dataclass(frozen=True, slots=True)
class Expert:
    """A model as users see it. `authorization` is a secret: kept out of `repr`, records and logs."""

    name: str
    model: str
    upstreams: tuple[Upstream, ...]
    domains: tuple[str, ...]
    serves: frozenset[Endpoint]
    capabilities: frozenset[Capability]
    timeouts: Timeouts
    price: Price | None = None
    context_length: int | None = None
    authorization: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Catalog:
    """All experts and what they are called; immutable, swapped whole on reload."""

    experts: Mapping[str, Expert]
    generalist: Expert
    by_domain: Mapping[str, Expert]
    version: str

    def named(self, model: str) -> Expert | None:
        """Find an expert by its name, else by its served model name (the first declared wins)."""
        found = self.experts.get(model)
        if found is not None:
            return found
        return next((expert for expert in self.experts.values() if expert.model == model), None)


@dataclass(frozen=True, slots=True)
class RoutingInput:
    """All a policy may know about one request.

    Attributes:
        features: what was read from the prompt.
        scores: calibrated domain probabilities, None when there are none.
        unscored: why `scores` is None.
        catalog: the experts.
        excluded: experts that cannot take this request, and why; the generalist may be among them.
        thresholds: when to abstain; for `abstain`, which nothing else compares scores with.
    """

    features: Features
    scores: DomainScores | None
    catalog: Catalog
    thresholds: Thresholds
    excluded: Mapping[str, Reason] = field(default_factory=dict)
    unscored: Reason = Reason.NO_TEXT


@dataclass(frozen=True, slots=True)
class Decision:
    """What a policy answers: who, who next, why, and how sure.

    Attributes:
        expert: the chosen expert.
        reason: the rule that decided.
        fallbacks: who is tried next when the chosen one fails before its first byte, in order.
        domain: the best domain, None when nothing was scored.
        confidence: its calibrated probability.
    """

    expert: Expert
    reason: Reason
    fallbacks: tuple[Expert, ...] = ()
    domain: str | None = None
    confidence: float | None = None
