"""Turns a decided request into something a person or a script can read. Decides nothing itself."""

from __future__ import annotations

from typing import Any

from gateway.context import RequestContext


def explain(context: RequestContext) -> dict[str, Any]:
    """Return the decision and what led to it; no prompt text.

    Args:
        context: a request that has been through `Pipeline.decide`; it has features and scores only if it was routed.
    """
    decision, features = context.decision, context.features
    assert decision is not None
    return {
        "expert": decision.expert.name,
        "model": decision.expert.model,
        "reason": decision.reason.value,
        "policy": context.policy or None,
        "domain": decision.domain,
        "confidence": decision.confidence,
        "margin": context.scores.margin() if context.scores is not None else None,
        "scores": context.scores.as_dict() if context.scores is not None else None,
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
