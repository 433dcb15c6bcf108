"""`POST /v1/route`: the decision for a request, with everything that led to it. Sends nothing upstream."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from fastapi import APIRouter, Request

from gateway.context import RequestContext
from gateway.controls import read_controls
from gateway.endpoints.body import read_body, read_headers
from gateway.endpoints.dependencies import CurrentGateway
from gateway.errors import BodyTimeout
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
    settings = generation.settings
    headers = read_headers(request.scope)
    try:
        async with asyncio.timeout(settings.timeouts.body_read_s):
            raw = await read_body(headers, request.receive, settings.limits.body_bytes)
    except TimeoutError as error:
        raise BodyTimeout("The request body did not arrive in time.") from error
    scope = request.scope
    context = RequestContext(scope["request_id"], Endpoint.CHAT, generation.catalog, grant=scope["grant"])
    context.received = time.perf_counter()
    asked = parse(Endpoint.CHAT, raw, settings.limits, settings.pass_through)
    await generation.pipeline.decide(asked, context, read_controls(headers))
    return explain(context, generation.pipeline.alternatives(context))
