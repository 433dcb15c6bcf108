"""Health and metrics: what a load balancer, an orchestrator and a scraper ask for. Answers without waiting."""

from __future__ import annotations

from fastapi import APIRouter, Response

from gateway.endpoints.dependencies import CurrentGateway

api = APIRouter(tags=["operations"])


@api.get("/health/live")
async def live() -> dict[str, str]:
    """Tell that the process answers; nothing else is looked at."""
    return {"status": "live"}


@api.get("/health/ready")
async def ready(gateway: CurrentGateway, response: Response) -> dict[str, str]:
    """Tell whether requests can be answered: 200, or 503 while no expert is up."""
    if not gateway.ready:
        response.status_code = 503
        return {"status": "no expert is up"}
    return {"status": "ready"}


@api.get("/metrics", response_class=Response)
async def metrics(gateway: CurrentGateway) -> Response:
    """Return all metrics in Prometheus' text format."""
    content, media_type = gateway.metrics.exposition()
    return Response(content, media_type=media_type)
