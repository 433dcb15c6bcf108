"""`POST /v1/route`: the decision for a request, with everything that led to it. Sends nothing upstream."""

from __future__ import annotations

import time
from typing import Any

from fastapi import APIRouter, Request

from gateway.context import RequestContext
from gateway.endpoints.dependencies import CurrentGateway
from gateway.errors import BodyTooLarge
from gateway.explain import explain
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
    limit = generation.settings.limits.body_bytes
    raw = bytearray()
    async for chunk in request.stream():
        raw += chunk
        if len(raw) > limit:
            raise BodyTooLarge(f"The request body is larger than {limit} bytes.")
    context = RequestContext(request.scope["request_id"], Endpoint.CHAT, generation.catalog)
    context.received = time.perf_counter()
    asked = parse(Endpoint.CHAT, bytes(raw), generation.settings.limits, generation.settings.pass_through)
    await generation.pipeline.decide(asked, context, request.headers.get("x-pointsman-policy"))
    return explain(context)
