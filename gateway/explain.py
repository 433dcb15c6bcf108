"""Turns a decided request into something a person or a script can read. Decides nothing itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gateway.context import RequestContext
from gateway.types import Decision


def explain(context: RequestContext, alternatives: Mapping[str, Decision]) -> dict[str, Any]:
    """Return the decision and what led to it; no prompt text.

    Args:
        context: a request that has been through `Pipeline.decide`; it has features and scores only if it was routed.
        alternatives: what each policy would have decided.
    """
    decision, features, scores = context.decision, context.features, context.scores
    assert decision is not None
    return {
        "expert": decision.expert.name,
        "model": decision.expert.model,
        "reason": decision.reason.value,
        "policy": context.policy or None,
        "domain": decision.domain,
        "confidence": decision.confidence,
        "threshold": context.threshold,
        "margin": None if scores is None else scores.margin(),
        "out_of_domain": None if scores is None else scores.out_of_domain,
        "disagreement": None if scores is None else scores.disagreement,
        "tier": None if scores is None else scores.tier,
        "limits": _limits(context),
        "scores": None if scores is None else scores.as_dict(),
        "fallbacks": [expert.name for expert in decision.fallbacks],
        "features": None
        if features is None
        else {
            "turns": features.turns,
            "token_estimate": features.token_estimate,
            "has_tools": features.has_tools,
            "has_images": features.has_images,
            "has_audio": features.has_audio,
            "has_files": features.has_files,
        },
        "experts": _experts(context),
        "policies": {name: _briefly(decision) for name, decision in alternatives.items()},
        "shadow": None if context.shadow is None else _briefly(context.shadow),
        "variant": context.variant,
        "session": _session(context),
        "classify_ms": None if context.scored_s is None else round(context.scored_s * 1000, 3),
        "catalog_version": context.catalog.version,
    }


def _experts(context: RequestContext) -> dict[str, Any]:
    """Return, for every expert, whether it may be chosen, why not, and what is expected of it, excluded or not."""
    routing, policy = context.routing, context.deciding
    if routing is None:
        return {}
    found: dict[str, Any] = {}
    for expected in context.estimates:
        name, eligible = expected.expert.name, routing.candidate(expected.expert) is not None
        excluded, latency_s = routing.excluded.get(name), expected.latency_s
        found[name] = {
            "eligible": eligible,
            "excluded": None if excluded is None else excluded.value,
            "expected_quality": expected.quality,
            "expected_cost": expected.cost,
            "expected_latency_ms": None if latency_s is None else round(latency_s * 1000, 3),
            "utility": policy.utility(routing, expected) if policy is not None and eligible else None,
        }
    return found


def _session(context: RequestContext) -> dict[str, Any] | None:
    """Return what is known of the conversation that the request continues."""
    session, conversation = context.session, context.conversation
    if session is None or conversation is None:
        return None
    return {
        "expert": session.expert,
        "turns": session.turns,
        "cached_tokens": session.tokens,
        "tool_loop": conversation.tool_loop,
    }


def _briefly(decision: Decision) -> dict[str, str]:
    return {"expert": decision.expert.name, "reason": decision.reason.value}


def _limits(context: RequestContext) -> dict[str, float] | None:
    """Return what the figures of the same names were held against."""
    limits = context.thresholds
    if context.scores is None or limits is None:
        return None
    return {"margin": limits.margin, "out_of_domain": limits.out_of_domain, "disagreement": limits.disagreement}
