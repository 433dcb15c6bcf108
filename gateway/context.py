"""The one mutable object of a request, and the flat record it ends as. Measures, but decides and sends nothing."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from gateway.answers import Usage as Usage
from gateway.conversation import Conversation
from gateway.limits.reservation import Reservation
from gateway.policies import Policy
from gateway.retry_budget import Running
from gateway.sessions import Session
from gateway.types import Candidate, Catalog, Decision, Endpoint, Grant, Reason, RoutingInput
from router import DomainScores, Features, Thresholds


@dataclass(slots=True)
class Attempt:
    """One try at one upstream. `outcome` is `ok`, `passed` (an error handed through) or an error code.

    `sent` says that the upstream may have worked for it; it has not while the request waited for a place there.
    It began `began_s` after the request came, and took `took_s` until it failed, or its answer was whole or, of a
    stream, began.
    """

    expert: str
    upstream: str
    outcome: str = "open"
    status: int | None = None
    sent: bool = False
    began_s: float | None = None
    took_s: float | None = None


@dataclass(slots=True)
class StrategyUse:
    """What became of a request's strategy.

    Attributes:
        name: which one.
        outcome: one word of the strategy's own closed set, or `skipped:` and why.
        calls: how many answers were asked of experts.
        extra: tokens that went into something else than the answer.
        extra_cost: what they cost, as far as it is known.
        extra_known: whether that is all.
    """

    name: str
    outcome: str = ""
    calls: int = 1
    extra: Usage = field(default_factory=lambda: Usage(0, 0))
    extra_cost: float = 0.0
    extra_known: bool = True


@dataclass(slots=True)
class RequestContext:
    """What is known of one request so far. All times are `time.perf_counter` seconds."""

    request_id: str
    endpoint: Endpoint
    catalog: Catalog
    started: float = field(default_factory=time.perf_counter)
    received: float | None = None
    started_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    policy: str = ""
    request_model: str = ""
    stream: bool = False
    features: Features | None = None
    scores: DomainScores | None = None
    thresholds: Thresholds | None = None
    classifier: str | None = None
    grant: Grant = Grant()
    draw: float = 0.0
    variant: str = "live"
    conversation: Conversation | None = None
    session: Session | None = None
    routing: RoutingInput | None = None
    estimates: tuple[Candidate, ...] = ()
    deciding: Policy | None = None
    decision: Decision | None = None
    shadow: Decision | None = None
    cost_limit: float | None = None
    strategy: StrategyUse | None = None
    rewrite: str | None = None
    cache: str | None = None
    cache_age_s: int | None = None
    running: Running | None = None
    answers: int = 1
    excluded: Mapping[str, Reason] = field(default_factory=dict)
    reservation: Reservation | None = None
    avoided: str | None = None
    resumed: int = 0
    attempts: list[Attempt] = field(default_factory=list)
    usage: Usage = field(default_factory=Usage)
    status: int = 0
    error: str | None = None
    scored_s: float | None = None
    dispatched: float | None = None
    queue_s: float | None = None
    connect_s: float | None = None
    first_byte: float | None = None
    finish: str | None = None
    chosen: str | None = None

    def overhead_s(self) -> float:
        """Seconds of ours: from the body's last byte to the moment it was first sent on (or to now)."""
        return (self.dispatched or time.perf_counter()) - (self.received or self.started)

    def since_start_s(self) -> float:
        """Seconds since the request came."""
        return time.perf_counter() - self.started

    @property
    def threshold(self) -> float | None:
        """Smallest probability at which the best domain would have been acted on; None when nothing was scored."""
        if self.scores is None or self.thresholds is None:
            return None
        return self.thresholds.of(self.scores.top()[0])

    @property
    def expected(self) -> Candidate | None:
        """What was expected of the expert that was decided for; None when nothing was routed."""
        if self.routing is None or self.decision is None:
            return None
        return self.routing.candidate(self.decision.expert)

    @property
    def fell_back(self) -> bool:
        """Another expert answered than was decided for, which failed; with a strategy its outcome says so."""
        plain = self.strategy is None or self.strategy.outcome.startswith("skipped:")
        return plain and self.decision is not None and self.chosen not in (None, self.decision.expert.name)

    @property
    def fallbacks(self) -> int:
        """How many tries failed before the one that answered; with a strategy, of all its calls."""
        return max(0, len(self.attempts) - self.calls)

    @property
    def calls(self) -> int:
        """How many answers were asked of experts."""
        return min(1, len(self.attempts)) if self.strategy is None else self.strategy.calls


@dataclass(frozen=True, slots=True)
class RouteRecord:
    """The flat row for one request, refused ones too. No prompt, no key, no upstream address of ours.

    Names follow OpenTelemetry's GenAI conventions where they have one.
    """

    request_id: str
    timestamp: datetime
    endpoint: str
    stream: bool
    request_model: str
    decided: str | None
    chosen: str | None
    response_model: str | None
    domain: str | None
    confidence: float | None
    margin: float | None
    threshold: float | None
    out_of_domain: float | None
    disagreement: float | None
    tier: str | None
    reason: str | None
    policy: str
    key: str
    variant: str
    session: str | None
    excluded: dict[str, str]
    expected_quality: float | None
    expected_cost: float | None
    shadow_chosen: str | None
    shadow_reason: str | None
    status: int
    error: str | None
    attempts: int
    strategy: str | None
    strategy_outcome: str | None
    calls: int
    rewritten: bool
    rewrite: str | None
    duration_s: float
    overhead_s: float
    classify_s: float | None
    time_to_first_byte_s: float | None
    input_tokens: int | None
    output_tokens: int | None
    cached_tokens: int | None
    extra_input_tokens: int
    extra_output_tokens: int
    extra_cost: float
    cost: float | None
    baseline_cost: float | None
    saving: float | None
    unpriced: str | None
    currency: str
    price_version: str
    cache: str | None
    cached: bool
    prompt_token_estimate: int | None
    catalog_version: str
    resumed: int = 0
    scores: dict[str, float] = field(default_factory=dict)
    minimum_margin: float | None = None
    maximum_out_of_domain: float | None = None
    maximum_disagreement: float | None = None
    estimates: dict[str, tuple[float | None, float | None]] = field(default_factory=dict)
    receive_s: float | None = None
    queue_s: float | None = None
    connect_s: float | None = None
    finish: str | None = None
    conversation: str | None = None
    classifier: str | None = None
