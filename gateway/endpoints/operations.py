"""Health and metrics: what a load balancer, an orchestrator and a scraper ask for. Answers without waiting."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from gateway.endpoints.dependencies import CurrentGateway
from gateway.shared_metrics import SharedMetrics

api = APIRouter(tags=["operations"])


@api.get("/health/live")
async def live() -> dict[str, str]:
    """Tell that the process answers; nothing else is looked at."""
    return {"status": "live"}


@api.get("/health/ready")
async def ready(gateway: CurrentGateway, response: Response) -> dict[str, str]:
    """Tell whether requests should be sent here: 200, or 503 while no expert is up or the gateway is stopping."""
    if gateway.ready:
        return {"status": "ready"}
    response.status_code = 503
    return {"status": "stopping" if gateway.draining else "no expert is up"}


@api.get("/metrics", response_class=Response)
async def metrics(request: Request, gateway: CurrentGateway) -> Response:
    """Return all metrics in Prometheus' text format, those of all workers together."""
    shared: SharedMetrics | None = request.app.state.shared_metrics
    content, media_type = gateway.metrics.exposition() if shared is None else await shared.page()
    return Response(content, media_type=media_type)
