"""Tells callers of the decision in response headers. Decides nothing."""

from __future__ import annotations

from gateway.context import RequestContext

Headers = list[tuple[bytes, bytes]]


def decision_headers(context: RequestContext, shown: str) -> Headers:
    """Return the `x-pointsman-*` headers, as many of them as `server.decision_headers` (`shown`) lets clients see."""
    decision = context.decision
    if decision is None or shown == "none":
        return []
    headers = [(b"x-pointsman-expert", (context.chosen or decision.expert.name).encode())]
    if shown == "expert":
        return headers
    if decision.domain is not None:
        headers.append((b"x-pointsman-domain", decision.domain.encode()))
    if decision.confidence is not None:
        headers.append((b"x-pointsman-confidence", b"%.4f" % decision.confidence))
    headers += [
        (b"x-pointsman-reason", decision.reason.value.encode()),
        (b"x-pointsman-policy", (context.policy or decision.reason.value).encode()),
        (b"x-pointsman-fallbacks", str(context.fallbacks).encode()),
        (b"x-pointsman-overhead-ms", b"%.2f" % (context.overhead_s() * 1000)),
    ]
    if context.fell_back:
        headers.append((b"x-pointsman-decided", decision.expert.name.encode()))
    if context.strategy is not None:
        used = context.strategy
        told = f"{used.name}; outcome={used.outcome}; calls={used.calls}"
        headers.append((b"x-pointsman-strategy", told.encode()))
    if context.rewrite is not None:
        headers.append((b"x-pointsman-rewrite", context.rewrite.encode()))
    return headers
