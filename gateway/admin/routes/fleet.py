"""Experts and their servers as this worker sees them, and the switch that takes a server out. Probes nothing."""

from __future__ import annotations

import math
import time
from contextlib import suppress
from typing import Any

from fastapi import APIRouter, Request
from pydantic import Field
from starlette.responses import Response

from gateway.admin.access import Admin, CurrentPlane, Viewer, note
from gateway.admin.answers import Strict, accepts, answer, read_json
from gateway.admin.errors import NotThere, StoreDown
from gateway.admin.plane import Plane
from gateway.generation import Generation
from gateway.health import UpstreamState
from gateway.keyring import Principal
from gateway.leases import RECENT_S
from gateway.types import Expert

api = APIRouter(tags=["fleet"])

Row = dict[str, Any]


class Switch(Strict):
    """Which server, and whether it is to get requests."""

    url: str = Field(max_length=2_000, description="The server's address, as `upstreams` lists it.")
    on: bool = Field(description="False: it gets no further request, not even as a last resort; open ones go on.")


@api.get("/experts")
async def experts(principal: Viewer, plane: CurrentPlane) -> Response:
    """Return every expert with what is configured and why it cannot answer now (`state` is `up` when it can)."""
    generation = plane.gateway.current
    found = [expert_row(generation, expert) for expert in generation.catalog.experts.values()]
    return answer({"experts": found, "currency": generation.settings.currency})


@api.get("/upstreams")
async def upstreams(principal: Viewer, plane: CurrentPlane) -> Response:
    """Return every server with its live state in this worker."""
    generation = plane.gateway.current
    return answer({"upstreams": [_upstream(generation, state) for state in generation.fleet.states.values()]})


@api.post("/upstreams/switch", openapi_extra=accepts(Switch))
async def switch(principal: Admin, plane: CurrentPlane, request: Request) -> Response:
    """Switch a server off or on until the gateway ends, in all workers within a second or two. Open requests go on."""
    wanted = await read_json(request, plane, Switch)
    await switch_server(plane, principal, wanted.url, on=wanted.on)
    state = plane.gateway.current.fleet.states.get(wanted.url)
    return answer(None if state is None else _upstream(plane.gateway.current, state))


async def switch_server(plane: Plane, principal: Principal, url: str, *, on: bool) -> None:
    """Switch a server off or on in all workers, and write down who did.

    Raises:
        NotThere: no expert has such a server.
        StoreDown: the other workers cannot be told; nothing is switched then.
    """
    if url not in plane.gateway.current.fleet.states:
        raise NotThere("No expert has such a server.", param="url", code="upstream_not_found")
    if plane.switches is not None:
        # First for all: half a switch is worse than none.
        try:
            await plane.switches.tell(url, on)
        except OSError as error:
            raise StoreDown("The other workers cannot be told now.", code="switch_failed") from error
    with suppress(KeyError):  # a reload has removed it meanwhile
        plane.gateway.current.fleet.switch(url, on=on)
    note(plane, principal, "upstream_on" if on else "upstream_off", upstream=url)


def expert_row(generation: Generation, expert: Expert) -> Row:
    """Return an expert with what is configured, and why it cannot answer now."""
    fleet, price = generation.fleet, expert.price
    reason = fleet.state_of(expert)
    return {
        "name": expert.name,
        "model": expert.model,
        "state": "up" if reason is None else reason.value,
        "domains": expert.domains,
        "serves": sorted(endpoint.value for endpoint in expert.serves),
        "capabilities": sorted(expert.capabilities),
        "languages": sorted(expert.languages),
        "context_length": fleet.context_length(expert),
        "price": None if price is None else {"input": price.input, "output": price.output},
        "upstreams": [upstream.url for upstream in expert.upstreams],
        "adapter": expert.adapter,
        "rewrite": None if expert.rewrite is None else expert.rewrite.digest,
        "max_open": expert.max_open,
        "sends_key": expert.authorization is not None,
    }


def _upstream(generation: Generation, state: UpstreamState) -> Row:
    now, breaker, load, error = time.monotonic(), state.breaker, state.load, state.last_error
    tries, failed = state.recent.totals(now)
    sharing = (e for e in generation.catalog.experts.values() if any(u.url == state.url for u in e.upstreams))
    return {
        "url": state.url,
        "experts": [expert.name for expert in sharing],
        "up": state.up,
        "disabled": state.disabled,
        "failures_in_a_row": state.failures,
        "breaker": {
            "state": breaker.state.value,
            "why": None if breaker.why is None else breaker.why.value,
            "open_for_s": None if breaker.open_until is None else round(max(0.0, breaker.open_until - now), 3),
            "ejections": breaker.ejections,
            "busy_for_s": round(breaker.busy_s, 3),
        },
        "last_error": None if error is None else {"code": error.code, "at": error.at, "by_probe": error.by_probe},
        "recent": {"seconds": RECENT_S, "tries": tries, "failed": failed},
        "probed_s_ago": None if state.probed_at is None else round(now - state.probed_at, 3),
        "next_probe_in_s": None if state.next_probe_at is None else round(max(0.0, state.next_probe_at - now), 3),
        "share": round(state.share, 4),
        "inflight": state.inflight,
        "waiting": state.limiter.waiting,
        "oldest_wait_s": round(state.limiter.oldest_s, 3),
        "limit": state.limiter.limit,
        "load": None
        if math.isinf(load.told_at)
        else {"waiting": load.waiting, "usage": load.usage, "told_s_ago": round(now - load.told_at, 3)},
        "models": None if state.models is None else sorted(state.models)[:1_000],
        "missing_models": sorted(state.missing),
        "context_lengths": {model: state.lengths[model] for model in sorted(state.expected & state.lengths.keys())},
    }
