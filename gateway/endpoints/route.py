"""`POST /v1/route`: the decision for a request, with everything that led to it. Sends nothing upstream."""

from __future__ import annotations

import time
from typing import Any

from fastapi import APIRouter, Request

from gateway.context import RequestContext
from gateway.controls import read_controls
from gateway.endpoints.body import read_body_of, read_headers
from gateway.endpoints.dependencies import CurrentGateway
from gateway.errors import Forbidden
from gateway.explain import explain
from gateway.generation import Generation
from gateway.openai import parse
from gateway.types import Endpoint

api = APIRouter(tags=["routing"])

_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {"type": "object", "required": ["model", "messages"]},
                "example": {"model": "auto", "messages": [{"role": "user", "content": "What is 17 * 23?"}]},
            }
        },
    }
}


@api.post("/v1/route", openapi_extra=_BODY)
async def route(request: Request, gateway: CurrentGateway) -> dict[str, Any]:
    """Decide for a chat request as `/v1/chat/completions` would, and say why."""
    generation = gateway.current
    with generation.running.hold():
        return await _decide(request, generation)


async def _decide(request: Request, generation: Generation) -> dict[str, Any]:
    settings = generation.settings
    if settings.server.decision_headers != "all":
        # Scores help those who craft prompts to steer the routing, here no less than in headers.
        raise Forbidden("The gateway does not tell how it decides.", code="route_hidden")
    scope = request.scope
    headers = read_headers(scope)
    raw = await read_body_of(scope, request.receive, settings.limits.body_bytes, settings.timeouts)
    context = RequestContext(scope["request_id"], Endpoint.CHAT, generation.catalog, grant=scope["grant"])
    context.received = time.perf_counter()
    asked = parse(Endpoint.CHAT, raw, settings.limits, settings.pass_through)
    await generation.pipeline.decide(asked, context, read_controls(headers))
    return explain(context, generation.pipeline.alternatives(context))
