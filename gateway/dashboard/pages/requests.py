"""Requests: find them by what they have, page through them, take them away as CSV. Changes nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

from fastapi import APIRouter
from starlette.responses import Response, StreamingResponse

from gateway.admin.errors import NotThere
from gateway.admin.record_rows import can_tell
from gateway.dashboard.asked_requests import Wanted, read
from gateway.dashboard.navigation import Nav
from gateway.dashboard.view import View, ViewerPage
from gateway.errors import PointsmanError
from gateway.feedback import GOOD_FROM
from gateway.record_export import csv_piece
from gateway.stores.feedback import rated
from gateway.stores.records.queries import Page, RecordFilter, scan_rows_of
from gateway.stores.sqlite import StoreError

NAV = Nav("Requests", "requests", "Watch", 40)
api = APIRouter()

PAGE_ROWS = 50
CSV_ROWS = 50_000
CSV_PIECE_ROWS = 500
MOST_CHOICES = 200
MOST_RATED = 500
FACETS = ("domain", "reason", "chosen", "key", "endpoint", "policy", "variant")


@api.get("/requests")
async def requests(view: ViewerPage) -> Response:
    """Show the newest requests that fit, or the next older ones for htmx."""
    query = view.request.query_params
    if "hx-request" not in view.request.headers and any(text == "" for text in query.values()):
        return view.see_other("requests", **{name: text for name, text in query.items() if text != ""})
    wanted = read(query)
    record_filter = await _with_ratings(view, wanted)
    found = await view.ask(lambda queries: queries.page(record_filter, wanted.cursor, PAGE_ROWS))
    context = _rows(wanted, record_filter, found.value, found.why)
    if "hx-request" in view.request.headers:
        return view.part("request_rows.html", currency=view.plane.gateway.settings.currency, **context)
    facets = await view.ask(lambda queries: queries.facets())
    choices = {name: [*filter(None, values)][:MOST_CHOICES] for name, values in (facets.value or {}).items()}
    return view.page(
        "requests.html",
        NAV.path,
        **context,
        choices=choices,
        facet_names=FACETS,
        can_rate=view.plane.gateway.settings.feedback.database is not None,
        can_watch=can_tell(record_filter) and not wanted.is_bounded,
        workers=view.plane.workers,
        csv_rows=CSV_ROWS,
    )


def _rows(wanted: Wanted, record_filter: RecordFilter, page: Page | None, why: str | None) -> dict[str, Any]:
    following = None if page is None or page.next is None else {**wanted.given, "cursor": page.next}
    return {
        "wanted": wanted,
        "rows": [] if page is None else page.rows,
        "following": following,
        "why": why,
        "scan_rows": scan_rows_of(record_filter),
        "is_short": page is not None and page.next is not None and len(page.rows) < PAGE_ROWS,
    }


@api.get("/requests.csv")
async def requests_csv(view: ViewerPage) -> Response:
    """Send the newest requests that fit, at most `CSV_ROWS`, in pieces of one query each."""
    if view.plane.gateway.records is None:
        raise NotThere("No records are kept.", code="records_disabled")
    wanted = read(view.request.query_params)
    record_filter = await _with_ratings(view, wanted)
    first = await _piece(view, record_filter, None)
    headers = {"content-disposition": 'attachment; filename="requests.csv"'}
    return StreamingResponse(_pieces(view, record_filter, first), media_type="text/csv; charset=utf-8", headers=headers)


async def _piece(view: View, wanted: RecordFilter, cursor: str | None) -> Page:
    found = await view.ask(lambda queries: queries.page(wanted, cursor, CSV_PIECE_ROWS))
    if found.value is None:
        raise PointsmanError("The store of records cannot be asked just now.", code=found.why)
    return found.value


async def _pieces(view: View, wanted: RecordFilter, page: Page) -> AsyncIterator[bytes]:
    yield csv_piece(page.rows, head=True)
    sent = len(page.rows)
    while page.next is not None and sent < CSV_ROWS:
        page = await _piece(view, wanted, page.next)
        sent += len(page.rows)
        yield csv_piece(page.rows, head=False)


async def _with_ratings(view: View, wanted: Wanted) -> RecordFilter:
    """Add to a filter whose answers were rated so; ratings are in a file of their own."""
    path = view.plane.gateway.settings.feedback.database
    if not wanted.rating or path is None:
        return wanted.filter
    try:
        good = wanted.rating == "up"
        rows = await view.plane.threads.query(lambda: rated(path, good=good, good_from=GOOD_FROM, limit=MOST_RATED))
    except StoreError:
        wanted.problems.append("rating: the file of ratings cannot be read")
        return wanted.filter
    return replace(wanted.filter, ids=tuple(dict.fromkeys(str(row["record_id"]) for row in rows)))
