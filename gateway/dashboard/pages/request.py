"""One request: why it went where it went, in one sentence and in every figure that is stored. Changes nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Query
from starlette.responses import Response

from gateway.admin.again import decide_again
from gateway.admin.errors import NotThere, QueryTooSlowError, StoreDown
from gateway.admin.journey import Stage, stages, waits
from gateway.admin.labelling import ask
from gateway.admin.reporting import plan_in_use
from gateway.admin.why import checks, experts, sentence
from gateway.dashboard.view import View, ViewerPage
from gateway.stores.feedback import ratings_of
from gateway.stores.prompts.contract import Label
from gateway.stores.records.details import neighbours, tries_of, with_id
from gateway.stores.records.queries import Queries
from gateway.stores.sqlite import StoreError

NAV = None
api = APIRouter()

Row = dict[str, Any]
LONGEST_ID = 128
SHOWN_IN = "requests"
SAME_S = 1.0


@dataclass(frozen=True, slots=True)
class Found:
    """What the store has of a request.

    Attributes:
        row: the request.
        alike: all with its id, the newest first; clients may give ids, so there can be several.
        tries: its tries, in order.
        near: other requests of its conversation, in the order of time.
    """

    row: Row
    alike: list[Row]
    tries: list[Row]
    near: list[Row]


def look_up(queries: Queries, request_id: str, at_us: int | None) -> Found | None:
    """Return the request of this id and time, the newest without a time."""
    alike = with_id(queries.run, request_id)
    row = next((one for one in alike if at_us in (None, one["at_us"])), None)
    if row is None:
        return None
    return Found(row, alike, tries_of(queries.run, row), neighbours(queries.run, row))


@api.get("/requests/{request_id}")
async def request(
    view: ViewerPage, request_id: str, at_us: Annotated[int | None, Query(ge=0, lt=2**62)] = None
) -> Response:
    """Show the page; 404 with an explanation when nothing is stored under this id."""
    known = "\0" not in request_id and len(request_id) <= LONGEST_ID
    found = await view.ask(lambda queries: look_up(queries, request_id, at_us) if known else None)
    if found.value is None:
        status, days = 404 if found.why is None else 200, view.plane.gateway.settings.records.keep_days
        return view.page("request_missing.html", SHOWN_IN, status=status, id=request_id, why=found.why, days=days)
    row, tries = found.value.row, found.value.tries
    laid_out = stages(row, tries)
    return view.page(
        "request.html",
        SHOWN_IN,
        found=found.value,
        row=row,
        why=sentence(row, tries),
        checks=checks(row),
        experts=experts(row),
        bars=_bars(row, laid_out),
        waits=waits(row),
        ratings=await _ratings(view, row),
        label=await _label(view, row),
        labels=view.plane.gateway.current.scorer.labels,
        is_current=row["catalog_version"] == view.plane.gateway.catalog.version,
        known_experts=view.plane.gateway.catalog.experts,
    )


@api.get("/requests/{request_id}/again")
async def again(view: ViewerPage, request_id: str, at_us: Annotated[int, Query(ge=0, lt=2**62)]) -> Response:
    """Say what the configuration in use would decide for the same scores; a part of the page."""
    found = await view.ask(lambda queries: look_up(queries, request_id, at_us))
    if found.value is None:
        return view.part("request_again.html", again=None, row=None, why=found.why or "record_not_found")
    gateway, row = view.plane.gateway, found.value.row
    plan = await view.plane.threads.files(lambda: plan_in_use(gateway))
    result = await view.plane.threads.query(lambda: decide_again(row, plan))
    return view.part("request_again.html", again=result, row=row, why=None)


@dataclass(frozen=True, slots=True)
class Bar:
    """A stage with its place on a line of 100."""

    stage: Stage
    left: float
    width: float


def _bars(row: Mapping[str, Any], found: list[Stage]) -> list[Bar]:
    whole = max([row.get("duration_s") or 0.0, *(stage.end_s for stage in found)], default=0.0)
    if not whole:
        return []
    return [Bar(one, 100 * one.start_s / whole, max(0.5, 100 * one.took_s / whole)) for one in found]


async def _label(view: View, row: Row) -> Label | None:
    """Return what somebody said the domain was; None: nobody has, or it cannot be read."""
    try:
        return await ask(view.plane, lambda kept: kept.labels.find(row["at_us"], row["id"]))
    except (StoreDown, QueryTooSlowError, NotThere):
        return None


async def _ratings(view: View, row: Row) -> list[dict[str, object]] | None:
    """Return the ratings of the answer; None: no ratings are kept, or they cannot be read."""
    path = view.plane.gateway.settings.feedback.database
    if path is None:
        return None
    try:
        found = await view.plane.threads.query(lambda: ratings_of(path, str(row["id"]), str(row["key"] or "")))
    except StoreError:
        return None
    # Ratings go by id and key alone, which several requests may have.
    ended_s = row["at_us"] / 1e6 + (row["duration_s"] or 0.0)
    return [one for one in found if abs(float(str(one["finished_at"])) - ended_s) < SAME_S]
