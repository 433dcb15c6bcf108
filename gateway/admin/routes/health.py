"""Which server fails, and why, at first look. Changes nothing; the switch is a route of `fleet`."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from starlette.responses import Response

from gateway.admin.access import CurrentPlane, Viewer
from gateway.admin.answers import answer
from gateway.admin.failing import ExpertHealth, ServerHealth, experts, headline, servers
from gateway.admin.routes.overview import retry_budget

api = APIRouter(tags=["fleet"])


@api.get("/health")
async def health(principal: Viewer, plane: CurrentPlane) -> Response:
    """Return all servers, the worst first, with what is wrong in a sentence, as this worker sees them."""
    generation = plane.gateway.current
    found = servers(generation.catalog, generation.fleet)
    whole = experts(generation.catalog, generation.fleet)
    return answer(
        {
            "says": headline(found, whole),
            "servers": [{"url": one.url, "experts": one.experts, **_described(one)} for one in found],
            "experts": [{"name": one.name, **_described(one)} for one in whole],
            "retry_budget": retry_budget(plane.gateway.retries),
        }
    )


def _described(one: ServerHealth | ExpertHealth) -> dict[str, Any]:
    return {"level": one.level.word, "state": one.word, "says": one.says}
