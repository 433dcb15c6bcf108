"""Turns a decided request into something a person or a script can read. Decides nothing itself."""

from __future__ import annotations

from typing import Any

from gateway.context import RequestContext


def explain(context: RequestContext) -> dict[str, Any]:
    """Return the decision and what led to it; no prompt text.

    Args:
        context: a request that has been through `Pipeline.decide`; it has features and scores only if it was routed.
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
        "classify_ms": None if context.scored_s is None else round(context.scored_s * 1000, 3),
        "catalog_version": context.catalog.version,
    }


def _limits(context: RequestContext) -> dict[str, float] | None:
    """Return what the figures of the same names were held against."""
    limits = context.thresholds
    if context.scores is None or limits is None:
        return None
    return {"margin": limits.margin, "out_of_domain": limits.out_of_domain, "disagreement": limits.disagreement}
