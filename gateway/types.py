"""The words of the decision: experts, catalog, input, decision, reason. Values only, no behaviour that waits.

Policies import this module and nothing else of ours, so a policy can be read and tested alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal, NamedTuple

from gateway.callers import Grant as Grant
from gateway.callers import draw_of as draw_of
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
    EXPECTED_QUALITY = "expected_quality"
    """The best expected quality, less the cost where the policy weighs it; the generalist may win."""
    QUALITY_FLOOR = "quality_floor"
    """The cheapest expert that reaches the policy's quality floor."""
    FIXED = "fixed"
    """The policy always takes this expert."""
    SPLIT = "split"
    """The policy splits traffic, and this request fell to this expert."""
    SESSION = "session"
    """The conversation stays with its expert: another would gain less than a switch costs."""
    TOOL_LOCK = "tool_lock"
    """A tool loop is open: the expert that called the tool reads the result."""
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
    FORBIDDEN = "forbidden"
    """The caller's key may not use the wanted expert."""
    PRICE_CAP = "price_cap"
    """The wanted expert is expected to cost more than the request may."""
    BUDGET = "budget"
    """The wanted expert is expected to cost more than is left of the budget."""
    LATENCY = "latency"
    """The wanted expert is expected to answer later than the objective."""
    LANGUAGE = "language"
    """The wanted expert does not speak the prompt's language."""
    CONTEXT_LENGTH = "context_length"
    """Prompt and `max_tokens` do not fit the wanted expert's context."""
    SATURATED = "saturated"
    """All servers of the wanted expert are busy."""
    ADAPTER_MISSING = "adapter_missing"
    """No server of the wanted expert has its model (LoRA adapter) loaded."""
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


REFUSING: frozenset[Reason] = frozenset({Reason.CAPABILITY, Reason.FORBIDDEN, Reason.PRICE_CAP, Reason.BUDGET})
"""Exclusions that are certain: an expert so excluded gets the request in no case."""

LAST_RESORT: tuple[frozenset[Reason], ...] = (
    frozenset({Reason.LATENCY, Reason.LANGUAGE}),
    frozenset({Reason.SATURATED}),
    frozenset({Reason.ADAPTER_MISSING}),
    frozenset({Reason.UNHEALTHY}),
    frozenset({Reason.CONTEXT_LENGTH}),
)
"""Exclusions that give way when nobody else is left, the mildest first: estimates, and where trying beats refusing.

Who is too short comes last, and is no fallback: it would blame the request (400, for good) for what another expert can
take as soon as its servers are back (503).
"""

NEVER_NEXT: frozenset[Reason] = REFUSING | {Reason.CONTEXT_LENGTH}
"""Exclusions of experts that are no fallback either."""


@dataclass(frozen=True, slots=True)
class Price:
    """Prices of an expert, in the catalog's currency per million tokens; `costs` reckons with them."""

    input: float
    output: float
    cached_input: float | None = None


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
class Rewrite:
    """What an expert's routed chat requests get besides the client's own words.

    Attributes:
        system: instructions before those of the client.
        prefix: text before the last user message's.
        suffix: text behind it.
        digest: what records and headers call it by.
    """

    system: str
    prefix: str
    suffix: str
    digest: str


@dataclass(frozen=True, slots=True)
class Expert:
    """A model as users see it. `authorization` is a secret: kept out of `repr`, records and logs.

    Attributes:
        languages: ISO 639-1 codes of the languages it speaks; empty means all.
        max_open: most requests open at one of its servers, where it has a limit of its own.
        adapter: path, as its servers see it, of the LoRA adapter that may be loaded into them; None: load nothing.
    """

    name: str
    model: str
    upstreams: tuple[Upstream, ...]
    domains: tuple[str, ...]
    serves: frozenset[Endpoint]
    capabilities: frozenset[Capability]
    timeouts: Timeouts
    price: Price | None = None
    context_length: int | None = None
    max_open: int | None = None
    languages: frozenset[str] = frozenset()
    adapter: str | None = None
    rewrite: Rewrite | None = None
    authorization: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Catalog:
    """All experts and what they are called; immutable, swapped whole on reload.

    Attributes:
        version: of the whole configuration.
        currency: of all prices.
        price_version: what records call the prices.
    """

    experts: Mapping[str, Expert]
    generalist: Expert
    by_domain: Mapping[str, Expert]
    version: str
    currency: str = "USD"
    price_version: str = ""

    def named(self, model: str) -> Expert | None:
        """Find an expert by its name, else by its served model name (the first declared wins)."""
        found = self.experts.get(model)
        if found is not None:
            return found
        return next((expert for expert in self.experts.values() if expert.model == model), None)


class Candidate(NamedTuple):
    """An expert with what is expected of it for one request.

    Attributes:
        expert: who.
        quality: expected quality 0 to 1, a lower confidence bound; None without a quality table or scores.
        cost: expected money, in the catalog's currency; None without prices.
        latency_s: expected seconds to the answer, or to the first token of a stream; None while nothing was seen.
    """

    expert: Expert
    quality: float | None = None
    cost: float | None = None
    latency_s: float | None = None


@dataclass(frozen=True, slots=True)
class RoutingInput:
    """All a policy may know about one request.

    Attributes:
        features: what was read from the prompt.
        scores: calibrated domain probabilities, None when there are none.
        catalog: the experts.
        thresholds: when to abstain; for `abstain`, which nothing else compares scores with.
        candidates: the experts that may be chosen, at least one, in the catalog's order (the generalist first).
        reference: the generalist with what is expected of it, whether it is a candidate or not.
        excluded: experts that are not candidates, and why.
        unscored: why `scores` is None.
        draw: 0 to 1, the same for all requests of a conversation (else of one text), for policies that split traffic.
        key: name of the caller's key, "" without one.
    """

    features: Features
    scores: DomainScores | None
    catalog: Catalog
    thresholds: Thresholds
    candidates: tuple[Candidate, ...]
    reference: Candidate
    excluded: Mapping[str, Reason] = field(default_factory=dict)
    unscored: Reason = Reason.NO_TEXT
    draw: float = 0.0
    key: str = ""

    def candidate(self, expert: Expert) -> Candidate | None:
        """Return the expert with its expectations when it may be chosen."""
        for candidate in self.candidates:
            if candidate.expert is expert:
                return candidate
        return None

    def take(self, expert: Expert, reason: Reason, fallbacks: tuple[Expert, ...] = ()) -> Decision:
        """Decide for an expert if it may be chosen, else for the generalist with why it may not.

        Args:
            expert: who is wanted.
            reason: why.
            fallbacks: who is next; the generalist is added as the last where it can take the request at all, be it
                up or down.
        """
        if self.candidate(expert) is None:
            reason = self.excluded.get(expert.name, Reason.UNHEALTHY)
            expert, fallbacks = self._default(), ()
        generalist = self.catalog.generalist
        chain = [e for e in fallbacks if e is not expert and e is not generalist]
        if expert is not generalist and self._may_follow(generalist):
            chain.append(generalist)
        domain, confidence = (None, None) if self.scores is None else self.scores.top()
        return Decision(expert, reason, tuple(chain), domain, confidence)

    def _may_follow(self, expert: Expert) -> bool:
        return self.candidate(expert) is not None or self.excluded.get(expert.name) not in NEVER_NEXT

    def _default(self) -> Expert:
        generalist = self.catalog.generalist
        return generalist if self.candidate(generalist) is not None else self.candidates[0].expert


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
