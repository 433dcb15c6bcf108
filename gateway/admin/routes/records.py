"""Stored requests, their sums over time, and events. Every query is bounded and runs in a thread."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query
from pydantic import Field, model_validator
from starlette.responses import Response

from gateway.admin.access import CurrentPlane, Viewer
from gateway.admin.answers import Strict, answer, encoded
from gateway.admin.errors import NotThere
from gateway.admin.plane import Plane
from gateway.stores.records.breathing import breathing
from gateway.stores.records.queries import (
    MOST_POINTS,
    Page,
    Queries,
    RecordFilter,
    RollupFilter,
    span_of,
    whole_span,
)
from gateway.stores.records.rollups import DAY_S

api = APIRouter(tags=["records"])

PAGE_ROWS = 200
POINTS_BY = 200
_LATEST_US = 2**62
_LATEST_S = 2**40
# PostgreSQL takes no NUL, and nothing that is stored has control characters.
Text = Annotated[str, Field(max_length=500, pattern=r"^[^\x00-\x1f\x7f]*$")]
Moment = Annotated[int, Field(ge=0, le=_LATEST_US)]
Second = Annotated[int, Field(ge=0, le=_LATEST_S)]
Share = Annotated[float, Field(ge=0, le=1)]
Below = Annotated[float, Field(ge=0, le=1.01)]
Tokens = Annotated[int, Field(ge=0, le=_LATEST_S)]


class PageQuery(Strict):
    """Which requests are wanted; what is left out does not matter."""

    cursor: Annotated[str, Field(max_length=600)] | None = Field(None, description="`next` of the page before.")
    limit: int = Field(50, ge=1, le=PAGE_ROWS, description="Most rows.")
    since_us: Moment = Field(0, description="From when on, microseconds since the epoch.")
    until_us: Moment = Field(_LATEST_US, description="Before when.")
    domain: Text | None = Field(None, description="Equal to this; `-`, here and below: has none.")
    chosen: Text | None = Field(None, description="Who answered.")
    decided: Text | None = Field(None, description="Who was decided for.")
    reason: Text | None = None
    key: Text | None = Field(None, description="The name of the caller's key.")
    policy: Text | None = None
    endpoint: Text | None = None
    variant: Text | None = None
    error: Text | None = Field(None, description="The error's code.")
    unpriced: Text | None = None
    strategy: Text | None = None
    finish: Text | None = None
    conversation: Text | None = None
    catalog_version: Text | None = None
    status: Annotated[int, Field(ge=100, le=599)] | None = None
    status_class: Annotated[int, Field(ge=1, le=5)] | None = Field(None, description="First digit of the status.")
    stream: bool | None = None
    failed_over: bool | None = Field(None, description="A try failed before the one that answered.")
    not_chosen: Text | None = Field(None, description="Somebody else answered.")
    expert_tried: Text | None = Field(None, description="One of the tries was at this expert.")
    upstream: Text | None = Field(None, description="One of the tries was at this server.")
    confidence_from: Share | None = None
    confidence_below: Below | None = None
    margin_from: Share | None = None
    margin_below: Below | None = None
    out_of_domain_from: Share | None = None
    out_of_domain_below: Below | None = None
    input_tokens_from: Tokens | None = None
    input_tokens_below: Tokens | None = None

    def wanted(self) -> RecordFilter:
        """Return it as the store takes it."""
        return RecordFilter(**self.model_dump(exclude={"cursor", "limit"}))


class TotalsQuery(Strict):
    """Which sums are wanted; without bounds, the last 24 hours."""

    since_s: Second | None = Field(None, description="From when on, seconds since the epoch.")
    until_s: Second | None = Field(None, description="Before when; left out: now.")
    domain: Text | None = None
    chosen: Text | None = None
    reason: Text | None = None
    status_class: Annotated[str, Field(pattern=r"^[0-5]xx$")] | None = None
    by: Literal["domain", "chosen", "reason", "status_class"] | None = Field(
        None, description="One sum for each value."
    )
    histograms: bool = Field(False, description="The counts of all buckets, too.")

    @model_validator(mode="after")
    def _in_order(self) -> TotalsQuery:
        if self.since_s is not None and self.until_s is not None and self.since_s > self.until_s:
            raise ValueError("since_s is after until_s")
        return self

    def wanted(self) -> RollupFilter:
        """Return it as the store takes it."""
        now_s = int(datetime.now(UTC).timestamp())
        until_s = now_s + 1 if self.until_s is None else self.until_s
        since_s = max(0, until_s - DAY_S) if self.since_s is None else min(self.since_s, until_s)
        return RollupFilter(since_s, until_s, self.domain, self.chosen, self.reason, self.status_class)


class SeriesQuery(TotalsQuery):
    """Which sums over time are wanted."""

    points: Annotated[int, Field(ge=1, le=MOST_POINTS)] | None = Field(
        None,
        description=f"Most points; longer times take longer spans. Left out: {MOST_POINTS}, or {POINTS_BY} with `by`.",
    )

    @property
    def most(self) -> int:
        """Most points: three thousand of them are half a second's work."""
        return self.points or (MOST_POINTS if self.by is None else POINTS_BY)


class EventQuery(Strict):
    """Which events are wanted."""

    since_us: Moment = Field(0, description="From when on, microseconds since the epoch.")
    limit: int = Field(100, ge=1, le=PAGE_ROWS, description="Most events, the newest.")


@api.get("/records")
async def page(principal: Viewer, plane: CurrentPlane, query: Annotated[PageQuery, Query()]) -> Response:
    """Return stored requests, newest first. A page may be short, or empty, and not the last: follow `next`."""

    def ask(queries: Queries) -> bytes:
        found: Page = queries.page(query.wanted(), query.cursor, query.limit)
        return encoded({"records": found.rows, "next": found.next})

    return await _asked(plane, ask)


@api.get("/records/{record_id}")
async def record(
    principal: Viewer,
    plane: CurrentPlane,
    record_id: Annotated[str, Path(pattern=r"^[A-Za-z0-9_.-]{1,128}$", description="The request's id.")],
) -> Response:
    """Return one request with its `tries`."""

    def ask(queries: Queries) -> bytes:
        found = queries.find(record_id)
        if found is None:
            raise NotThere("No stored request has this id.", code="record_not_found")
        return encoded(found)

    return await _asked(plane, ask)


@api.get("/rollups/series")
async def series(principal: Viewer, plane: CurrentPlane, query: Annotated[SeriesQuery, Query()]) -> Response:
    """Return sums and percentiles over time; spans without requests have no point."""

    def ask(queries: Queries) -> bytes:
        wanted, by = query.wanted(), query.by
        span_s = span_of(wanted, query.most)
        points = [_point(point, query) for point in breathing(queries.series(wanted, by, query.most))]
        return encoded(
            {
                "since_s": wanted.since_s // span_s * span_s,
                "until_s": wanted.until_s,
                "span_s": span_s,
                "points": points,
            }
        )

    return await _asked(plane, ask)


@api.get("/rollups/totals")
async def totals(principal: Viewer, plane: CurrentPlane, query: Annotated[TotalsQuery, Query()]) -> Response:
    """Return sums and percentiles over the whole time."""

    def ask(queries: Queries) -> bytes:
        wanted = query.wanted()
        whole = whole_span(wanted)
        points = [_point(point, query) for point in queries.totals(wanted, query.by)]
        return encoded({"since_s": whole.since_s, "until_s": whole.until_s, "totals": points})

    return await _asked(plane, ask)


@api.get("/facets")
async def facets(principal: Viewer, plane: CurrentPlane) -> Response:
    """Return which values have occurred in the columns that records can be filtered by."""
    return await _asked(plane, lambda queries: encoded(queries.facets()))


@api.get("/events")
async def events(principal: Viewer, plane: CurrentPlane, query: Annotated[EventQuery, Query()]) -> Response:
    """Return what happened to the gateway and what administrators did, newest first."""
    return await _asked(plane, lambda queries: encoded({"events": queries.events(query.since_us, query.limit)}))


def _point(point: Any, query: TotalsQuery) -> dict[str, Any]:
    found: dict[str, Any] = point.described()
    return {**found, "histograms": point.histograms()} if query.histograms else found


async def _asked(plane: Plane, ask: Callable[[Queries], bytes]) -> Response:
    return answer(await plane.ask(ask))
