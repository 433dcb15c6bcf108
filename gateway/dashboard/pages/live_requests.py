"""Requests as they finish, as server-sent events: the one stream of the dashboard. Keeps nothing, asks no store.

Found before `request.py`, whose address has room for any id.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import orjson
from fastapi import APIRouter
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from gateway.admin.access import viewer
from gateway.admin.record_rows import as_row, fits
from gateway.admin.tail import Listener
from gateway.dashboard.asked_requests import read
from gateway.dashboard.view import View, ViewerPage
from gateway.errors import PointsmanError
from gateway.stores.records.queries import RecordFilter

NAV = None
api = APIRouter()

# Written in a millisecond of the event loop; nobody reads more in a second.
LIVE_ROWS = 12
LIVE_S = 1.0
CHECK_S = 2.0


@api.get("/requests/tail")
async def tail(view: ViewerPage) -> Response:
    """Send requests as they finish, as server-sent events; ends soon after the session has."""
    wanted = read(view.request.query_params)
    return _TailResponse(view, wanted.filter, view.plane.tail.listen())


class _TailResponse(StreamingResponse):
    """Closes its listener whatever becomes of it, also when it is never sent."""

    def __init__(self, view: View, wanted: RecordFilter, listener: Listener) -> None:
        # The one type that the front does not count as a request that is inside.
        super().__init__(_events(view, wanted, listener), headers={"content-type": "text/event-stream"})
        self._listener = listener

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._listener:
            await super().__call__(scope, receive, send)


async def _events(view: View, wanted: RecordFilter, listener: Listener) -> AsyncIterator[bytes]:
    yield b"retry: 5000\n\n"
    loop = asyncio.get_running_loop()
    checked_at, hidden = loop.time(), 0
    while not view.plane.gateway.draining:
        records = await listener.take(CHECK_S)
        if loop.time() - checked_at >= CHECK_S:
            if not await _is_welcome(view):
                yield b"event: over\ndata: session\n\n"
                return
            checked_at = loop.time()
        rows = [row for record in records if fits(wanted, row := as_row(record))]
        hidden += max(0, len(rows) - LIVE_ROWS)
        yield _event(view, rows[-LIVE_ROWS:], hidden + listener.dropped) if rows else b": \n\n"
        # One step a second: what comes meanwhile waits in the bounded queue, so a busy gateway renders no more.
        await asyncio.sleep(LIVE_S)


async def _is_welcome(view: View) -> bool:
    try:
        await viewer(view.request, view.plane, None)
    except PointsmanError:
        return False
    return True


def _event(view: View, rows: list[dict[str, Any]], hidden: int) -> bytes:
    currency = view.plane.gateway.settings.currency
    html = view.renderer.fill("request_row.html", rows=rows[::-1], currency=currency)
    return b"event: rows\ndata: " + orjson.dumps({"html": html, "count": len(rows), "hidden": hidden}) + b"\n\n"
