"""The one mutable object of a request, and the flat record it ends as. Measures, but decides and sends nothing."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from gateway.answers import Usage as Usage
from gateway.conversation import Conversation
from gateway.costs import Bill, bill_of
from gateway.limits.reservation import Reservation
from gateway.policies import Policy
from gateway.retry_budget import Running
from gateway.sessions import Session
from gateway.types import Candidate, Catalog, Decision, Endpoint, Grant, Reason, RoutingInput
from router import DomainScores, Features, Thresholds


@dataclass(slots=True)
class Attempt:
    """One try at one upstream. `outcome` is `ok`, `passed` (an error handed through) or an error code."""

    expert: str
    upstream: str
    outcome: str = "open"
    status: int | None = None


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
    grant: Grant = Grant()
    draw: float = 0.0
    variant: str = "live"
    conversation: Conversation | None = None
    session: Session | None = None
    routing: RoutingInput | None = None
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
    first_byte: float | None = None
    chosen: str | None = None

    def overhead_s(self) -> float:
        """Seconds of ours: from the body's last byte to the moment it was first sent on (or to now)."""
        return (self.dispatched or time.perf_counter()) - (self.received or self.started)

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


def record_of(context: RequestContext) -> RouteRecord:
    """Freeze a finished request."""
    decision, scores, bill = context.decision, context.scores, _bill(context)
    cached = context.cache == "hit"
    # No expert has worked for an answer from the cache: its tokens were counted when it was made.
    usage = Usage(0, 0, 0) if cached else context.usage
    expert = context.catalog.experts.get(context.chosen) if context.chosen else None
    first, expected, shadow = context.first_byte, context.expected, context.shadow
    strategy = context.strategy or StrategyUse("")
    return RouteRecord(
        request_id=context.request_id,
        timestamp=context.started_at,
        endpoint=context.endpoint.value,
        stream=context.stream,
        request_model=context.request_model,
        decided=decision.expert.name if decision else None,
        chosen=context.chosen,
        response_model=expert.model if expert else None,
        domain=decision.domain if decision else None,
        confidence=_rounded(decision.confidence) if decision else None,
        margin=_rounded(scores.margin()) if scores is not None else None,
        threshold=_rounded(context.threshold),
        out_of_domain=_rounded(scores.out_of_domain) if scores is not None else None,
        disagreement=_rounded(scores.disagreement) if scores is not None else None,
        tier=scores.tier if scores is not None else None,
        reason=decision.reason.value if decision else None,
        policy=context.policy,
        key=context.grant.name,
        variant=context.variant,
        session=context.session.expert if context.session else None,
        excluded={name: why.value for name, why in context.excluded.items()},
        expected_quality=_rounded(expected.quality) if expected else None,
        expected_cost=_rounded(expected.cost, 9) if expected else None,
        shadow_chosen=shadow.expert.name if shadow else None,
        shadow_reason=shadow.reason.value if shadow else None,
        status=context.status,
        error=context.error,
        attempts=len(context.attempts),
        strategy=strategy.name or None,
        strategy_outcome=strategy.outcome or None,
        calls=context.calls,
        rewritten=context.rewrite is not None,
        rewrite=context.rewrite,
        duration_s=round(time.perf_counter() - context.started, 6),
        overhead_s=round(context.overhead_s(), 6),
        classify_s=_rounded(context.scored_s, 6),
        time_to_first_byte_s=_rounded(first - context.started, 6) if first is not None else None,
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cached_tokens=usage.cached_tokens,
        extra_input_tokens=strategy.extra.input_tokens or 0,
        extra_output_tokens=strategy.extra.output_tokens or 0,
        extra_cost=round(strategy.extra_cost, 12),
        cost=bill.cost,
        baseline_cost=bill.baseline,
        saving=bill.saving,
        unpriced=bill.unpriced,
        currency=context.catalog.currency,
        price_version=context.catalog.price_version,
        cache=context.cache,
        cached=cached,
        prompt_token_estimate=context.features.token_estimate if context.features else None,
        catalog_version=context.catalog.version,
        resumed=context.resumed,
    )


def _bill(context: RequestContext) -> Bill:
    """Return what the whole request cost: the answer and what a strategy spent besides."""
    catalog, strategy, decision = context.catalog, context.strategy, context.decision
    expert, generalist = catalog.experts.get(context.chosen or ""), catalog.generalist
    # Who names an expert has decided alone, so nothing was saved; and some endpoints the generalist cannot answer.
    ours = decision is not None and decision.reason is not Reason.PINNED and context.endpoint in generalist.serves
    return bill_of(
        context.usage,
        None if expert is None else expert.price,
        generalist.price if ours else None,
        answered=expert is not None,
        extra_cost=0.0 if strategy is None else strategy.extra_cost,
        extra_known=strategy is None or strategy.extra_known,
        from_cache=context.cache == "hit",
    )


def _rounded(value: float | None, digits: int = 4) -> float | None:
    return None if value is None else round(value, digits)
