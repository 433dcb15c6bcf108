"""Reports on scores: how sure the classifier is, what thresholds do, whether traffic drifts. Changes nothing."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import Field
from starlette.responses import Response

from gateway.admin.access import CurrentPlane, Viewer
from gateway.admin.answers import Strict, answer, encoded
from gateway.admin.confidence_report import confidence_report, tried
from gateway.admin.drift_report import drift
from gateway.admin.drift_windows import Name, windows
from gateway.admin.routes.reports import Second, SpanQuery
from gateway.stores.records.queries import Queries

api = APIRouter(tags=["reports"])


class DriftQuery(Strict):
    """What is compared with what."""

    window: Name = Field("day", description="How long is looked at; it ends now.")
    reference_s: Second | None = Field(
        None, description="When the reference week begins (UTC day); left out: seven days before what is looked at."
    )


@api.get("/reports/confidence")
async def confidence(principal: Viewer, plane: CurrentPlane, query: Annotated[SpanQuery, Query()]) -> Response:
    """Return histograms of confidence and margin by domain, and requests and money at 101 thresholds of confidence."""
    generation, (since_s, until_s) = plane.gateway.current, query.bounds()
    thresholds, catalog = generation.pipeline.thresholds, generation.catalog

    def ask(queries: Queries) -> bytes:
        report = confidence_report(queries, since_s, until_s, thresholds)
        what_if = tried(queries, since_s, until_s, thresholds, catalog)
        found: dict[str, Any] = {name: getattr(report, name) for name in ("since_s", "until_s", "requests", "domains")}
        return encoded(
            {
                **found,
                "thresholds": thresholds.as_dict(),
                "what_if": what_if.as_json(),
                "currency": catalog.currency,
            }
        )

    return answer(await plane.ask(ask))


@api.get("/reports/drift")
async def drifting(principal: Viewer, plane: CurrentPlane, query: Annotated[DriftQuery, Query()]) -> Response:
    """Return how far the mix of domains, the scores and the length of prompts are from a reference week's."""
    now, reference = windows(query.window, int(datetime.now(UTC).timestamp()), query.reference_s)

    def ask(queries: Queries) -> bytes:
        return encoded({**drift(queries, now, reference).as_json(), "overlap": now.overlaps(reference)})

    return answer(await plane.ask(ask))
