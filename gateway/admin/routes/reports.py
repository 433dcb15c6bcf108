"""Reports over stored requests: money, times, keys; and a draft of the configuration tried on them. Changes nothing."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Query, Request
from pydantic import Field, model_validator
from starlette.responses import Response

from gateway.admin.access import Admin, CurrentPlane, Viewer
from gateway.admin.answers import Strict, accepts, answer, read_json
from gateway.admin.draft import MOST_ROWS
from gateway.admin.reporting import costs, keys, latencies, try_out
from gateway.stores.records.rollups import DAY_S

api = APIRouter(tags=["reports"])

_LONGEST_S = 800 * DAY_S
Second = Annotated[int, Field(ge=0, le=2**40)]


class SpanQuery(Strict):
    """A span of time; without bounds, the last 24 hours."""

    since_s: Second | None = Field(None, description="From when on, seconds since the epoch.")
    until_s: Second | None = Field(None, description="Before when; left out: now.")

    @model_validator(mode="after")
    def _in_order(self) -> SpanQuery:
        since_s, until_s = self.bounds()
        if since_s > until_s:
            raise ValueError("since_s is after until_s")
        if until_s - since_s > _LONGEST_S:
            raise ValueError("the span is longer than 800 days")
        return self

    def bounds(self) -> tuple[int, int]:
        """Return both bounds."""
        until_s = int(datetime.now(UTC).timestamp()) + 1 if self.until_s is None else self.until_s
        return (max(0, until_s - DAY_S) if self.since_s is None else self.since_s), until_s


class DryRun(Strict):
    """A draft of the configuration."""

    yaml: str = Field(max_length=1_000_000, description="The whole file.")
    last: int = Field(2_000, ge=1, le=MOST_ROWS, description="How many of the latest stored requests to decide anew.")


@api.get("/reports/cost")
async def cost(principal: Viewer, plane: CurrentPlane, query: Annotated[SpanQuery, Query()]) -> Response:
    """Return what answers cost, what the generalist alone would have cost, and what that takes for granted."""
    report = await costs(plane, *query.bounds())
    return answer({**report.as_json(), "currency": plane.gateway.catalog.currency})


@api.get("/reports/latency")
async def latency(principal: Viewer, plane: CurrentPlane, query: Annotated[SpanQuery, Query()]) -> Response:
    """Return percentiles of the stages of requests, in seconds, over time and by expert."""
    return answer((await latencies(plane, *query.bounds())).as_json())


@api.get("/reports/keys")
async def key_use(principal: Viewer, plane: CurrentPlane, query: Annotated[SpanQuery, Query()]) -> Response:
    """Return all keys, without secrets: limits, what is used of them now, what each did and spent."""
    report = await keys(plane, *query.bounds())
    return answer({**report.as_json(), "currency": plane.gateway.catalog.currency})


@api.post("/config/dry-run", openapi_extra=accepts(DryRun))
async def dry_run(principal: Admin, plane: CurrentPlane, request: Request) -> Response:
    """Check a draft, compare it with the file, decide the latest stored requests with it. 422: it cannot be used."""
    wanted = await read_json(request, plane, DryRun)
    return answer((await try_out(plane, wanted.yaml, wanted.last)).as_json())
