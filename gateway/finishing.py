"""Freezes a finished request into its record. Measures and decides nothing, and takes nothing of the prompt."""

from __future__ import annotations

import time

from gateway.answers import Usage
from gateway.context import RequestContext, RouteRecord, StrategyUse
from gateway.costs import Bill, bill_of
from gateway.types import Reason
from router import DomainScores

BEST_SCORES = 3
MOST_ESTIMATES = 12


def record_of(context: RequestContext) -> RouteRecord:
    """Freeze a finished request."""
    decision, scores, bill = context.decision, context.scores, _bill(context)
    cached = context.cache == "hit"
    # No expert has worked for an answer from the cache: its tokens were counted when it was made.
    usage = Usage(0, 0, 0) if cached else context.usage
    expert = context.catalog.experts.get(context.chosen) if context.chosen else None
    first, expected, shadow = context.first_byte, context.expected, context.shadow
    best, margin = _best(scores)
    limits = context.thresholds if scores is not None else None
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
        margin=margin,
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
        scores=best,
        minimum_margin=limits.margin if limits else None,
        maximum_out_of_domain=limits.out_of_domain if limits else None,
        maximum_disagreement=limits.disagreement if limits else None,
        estimates=_estimates(context),
        receive_s=_rounded(context.received - context.started, 6) if context.received is not None else None,
        queue_s=_rounded(context.queue_s, 6),
        connect_s=_rounded(context.connect_s, 6),
        finish=context.finish,
        conversation=_conversation(context),
        classifier=context.classifier,
    )


def _best(scores: DomainScores | None) -> tuple[dict[str, float], float | None]:
    """Return the best domains' probabilities, the best first, and the first one's lead (as `DomainScores.margin`)."""
    if scores is None:
        return {}, None
    values: list[float] = scores.probabilities.tolist()
    places = sorted(range(len(values)), key=values.__getitem__, reverse=True)[:BEST_SCORES]
    margin = values[places[0]] - values[places[1]] if len(places) > 1 else 1.0
    return {scores.labels[place]: round(values[place], 4) for place in places}, round(margin, 4)


def _estimates(context: RequestContext) -> dict[str, tuple[float | None, float | None]]:
    """Return expected quality and cost by expert, where qualities were compared."""
    if not context.estimates or context.estimates[0].quality is None:
        return {}
    # As they are: rounding them all takes longer than the rest, and the store's thread does it.
    return {one.expert.name: (one.quality, one.cost) for one in context.estimates[:MOST_ESTIMATES]}


def _conversation(context: RequestContext) -> str | None:
    """Return what a conversation's requests have in common: when its first one came, and nothing of what was said."""
    if context.conversation is None:
        return None
    known = context.session.conversation if context.session is not None else ""
    return known or f"{int(context.started_at.timestamp() * 1_000_000):x}"


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
