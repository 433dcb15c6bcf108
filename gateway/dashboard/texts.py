"""What pages say of reason codes, and of why there is nothing to show. Texts only."""

from __future__ import annotations

from gateway.types import Reason

EMPTY = {
    "records_disabled": "No records are kept. Set records.database in the configuration to keep them.",
    "records_unavailable": "The store of records cannot be asked just now. Requests are answered all the same.",
    "query_too_slow": "The question took too long. Take a shorter span of time.",
    "no_traffic": "No request in this span of time.",
    "quality_disabled": "No quality table is configured (policy.quality_table).",
    "key_store_disabled": "No store of keys is configured (key_store).",
    "key_store_unavailable": "The store of keys cannot be read just now.",
    "history_unavailable": "The history of the configuration cannot be read just now.",
    "current_unusable": "What the configuration in use names (artifact, quality table, environment) cannot be read any "
    "more, so nothing can be decided anew.",
    "history_disabled": "No history of the configuration is kept (admin.database).",
}
REASONS: dict[str, str] = {
    Reason.PINNED: "The client named the expert.",
    Reason.REQUESTED_DOMAIN: "The client named the domain.",
    Reason.EXPECTED_QUALITY: "The best expected quality, less the cost where the policy weighs it.",
    Reason.QUALITY_FLOOR: "The cheapest expert that reaches the policy's quality floor.",
    Reason.FIXED: "The policy always takes this expert.",
    Reason.SPLIT: "The policy splits traffic, and the request fell to this expert.",
    Reason.SESSION: "The conversation stayed with its expert: another would gain less than a switch costs.",
    Reason.TOOL_LOCK: "A tool loop was open: the expert that called the tool reads the result.",
    Reason.CONFIDENT: "The classifier was sure enough of the domain, and this is the domain's expert.",
    Reason.UNCOVERED_DOMAIN: "The best domain belongs to no expert, so the generalist answered.",
    Reason.LOW_CONFIDENCE: "The best domain's probability was below its threshold, so the generalist answered.",
    Reason.SMALL_MARGIN: "The two best domains were too close to each other, so the generalist answered.",
    Reason.OUT_OF_DOMAIN: "The prompt is unlike what the classifier was trained on, so the generalist answered.",
    Reason.DISAGREEMENT: "The scores hung on the prompt's first words, so the generalist answered.",
    Reason.CAPABILITY: "The wanted expert lacks something that the request needs.",
    Reason.FORBIDDEN: "The caller's key may not use the wanted expert.",
    Reason.PRICE_CAP: "The wanted expert was expected to cost more than the request may.",
    Reason.BUDGET: "The wanted expert was expected to cost more than is left of the budget.",
    Reason.LATENCY: "The wanted expert was expected to answer later than the objective.",
    Reason.LANGUAGE: "The wanted expert does not speak the prompt's language.",
    Reason.CONTEXT_LENGTH: "Prompt and answer would not fit the wanted expert's context.",
    Reason.SATURATED: "All servers of the wanted expert were busy.",
    Reason.ADAPTER_MISSING: "No server of the wanted expert had its model loaded.",
    Reason.UNHEALTHY: "No server of the wanted expert was up, so another answered.",
    Reason.NO_TEXT: "There was nothing to classify, so the generalist answered.",
    Reason.SCORER_ERROR: "The classifier failed, so the generalist answered.",
    Reason.SCORER_TIMEOUT: "The classifier missed its deadline, so the generalist answered.",
}
