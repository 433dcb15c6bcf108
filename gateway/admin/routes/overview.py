"""The first look: is all well, how much goes through, does the store write, is the file in use. Changes nothing."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter
from starlette.responses import Response

from gateway import __version__
from gateway.admin.access import CurrentPlane, Viewer
from gateway.admin.answers import answer
from gateway.admin.errors import QueryTooSlowError, StoreDown
from gateway.admin.plane import Plane
from gateway.lately import RATE_S, Lately
from gateway.retry_budget import RetryBudget
from gateway.stores.records.queries import Queries, RollupFilter
from gateway.stores.records.rollups import DAY_S, HOUR_S

api = APIRouter(tags=["overview"])

Row = dict[str, Any]


@api.get("/overview")
async def overview(principal: Viewer, plane: CurrentPlane) -> Response:
    """Return live counts of this worker, sums of the last hour and of today (UTC), and how store and file are doing."""
    live = _live(plane)
    totals, why = await _totals(plane)
    return answer(
        {
            **live,
            "totals": totals,
            "records_error": why,
            "records": _writer(plane),
            "reload": _reload(plane),
            "principal": {"name": principal.name, "role": principal.role},
        }
    )


def retry_budget(budget: RetryBudget) -> Row:
    """Return how much of this worker's budget for further tries is in use, and how often it was not enough."""
    return {
        "taken": budget.retries,
        "limit": budget.limit,
        "waiting": budget.waiting,
        "active": budget.active,
        "exhausted": budget.exhausted,
    }


def lately(seen: Lately) -> Row:
    """Return how long this worker itself took for its last requests, in seconds, and how many there are."""
    p50, p95, p99 = seen.overhead(0.5, 0.95, 0.99)
    rate = seen.rate()
    return {
        "overhead": {"requests": seen.timed, "p50": p50, "p95": p95, "p99": p99},
        "rate": {"seconds": RATE_S, "requests_per_s": round(rate.per_s, 3), "failed": rate.failed},
    }


def _live(plane: Plane) -> Row:
    gateway = plane.gateway
    fleet, catalog = gateway.current.fleet, gateway.catalog
    states = list(fleet.states.values())
    return {
        "version": __version__,
        "config_version": catalog.version,
        "ready": gateway.ready,
        "draining": gateway.draining,
        "workers": plane.workers,
        "started_at": plane.started_at,
        "uptime_s": round(time.monotonic() - plane.started, 3),
        "requests_running": gateway.admission.inside,
        "requests_limit": gateway.admission.limit,
        "retries_running": gateway.retries.retries,
        "retry_budget": retry_budget(gateway.retries),
        **lately(gateway.lately),
        "experts": {"all": len(catalog.experts), "usable": sum(map(fleet.usable, catalog.experts.values()))},
        "upstreams": {
            "all": len(states),
            "up": sum(state.up and not state.disabled for state in states),
            "disabled": sum(state.disabled for state in states),
            "ejected": sum(state.breaker.open_until is not None for state in states),
            "inflight": sum(state.inflight for state in states),
            "waiting": sum(state.limiter.waiting for state in states),
        },
    }


def _writer(plane: Plane) -> Row | None:
    records = plane.gateway.records
    if records is None:
        return None
    state = records.state()
    return {name: getattr(state, name) for name in state.__slots__}


def _reload(plane: Plane) -> Row | None:
    if plane.reloader is None:
        return None
    last = plane.reloader.last
    if last is None:
        return {"at": None, "outcome": None, "problems": (), "need_restart": ()}
    at, result = last
    return {
        "at": at,
        "outcome": result.outcome.value,
        "problems": result.problems,
        "need_restart": result.need_restart,
    }


async def _totals(plane: Plane) -> tuple[Row | None, str | None]:
    """Return sums, or None and why there are none: all else on the page does not need the store."""
    if plane.gateway.records is None:
        return None, "records_disabled"
    try:
        return await plane.ask(_sums), None
    except (StoreDown, QueryTooSlowError) as error:
        return None, error.code


def _sums(queries: Queries) -> Row:
    now_s = int(datetime.now(UTC).timestamp())
    spans = {"hour": now_s - HOUR_S, "today": now_s // DAY_S * DAY_S}
    found = {name: queries.totals(RollupFilter(since_s, now_s + 1)) for name, since_s in spans.items()}
    return {name: points[0].described() if points else None for name, points in found.items()}
