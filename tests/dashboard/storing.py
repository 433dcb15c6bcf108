"""Puts records of any kind into a running gateway's store, by its own writer. Sends no request."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from gateway.context import RequestContext
from gateway.types import Endpoint
from tests.dashboard.conftest import Site
from tests.stores.samples import record
from tests.waiting import until


async def store(site: Site, *changes: dict[str, Any], ago_s: float = 60) -> None:
    """Store the plain record with each of these changes, of a minute ago, and wait until they are there."""
    gateway = site.admin.gateway
    records = gateway.records
    assert records is not None
    written = records.state().written
    for number, change in enumerate(changes):
        at = datetime.now(UTC) - timedelta(seconds=ago_s)
        one = replace(record(number), timestamp=at, request_id=f"made-{written + number}")
        records.note(RequestContext(one.request_id, Endpoint.CHAT, gateway.catalog), replace(one, **change))
    await until(lambda: records.state().written == written + len(changes))
