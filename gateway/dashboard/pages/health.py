"""Health: which server fails and why, errors by class, the retry budget, what happened. Switches, probes nothing."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from fastapi import APIRouter
from starlette.responses import Response

from gateway.admin.failing import Level, experts, headline
from gateway.admin.outages import KINDS, Outage, ended_by_start, outages, share_out
from gateway.admin.plane import Plane
from gateway.admin.routes.fleet import switch_server
from gateway.dashboard.bins import Bins, bins
from gateway.dashboard.charts import Chart, Series
from gateway.dashboard.happenings import ALL, told
from gateway.dashboard.live import live_answer
from gateway.dashboard.login import read_form
from gateway.dashboard.navigation import Nav
from gateway.dashboard.servers import STATES, figures, recent, rows
from gateway.dashboard.spans import ChosenSpan
from gateway.dashboard.view import AdminPage, ViewerPage
from gateway.errors import InvalidRequest
from gateway.stores.records.contract import microseconds
from gateway.stores.records.counts import ErrorCount, Errors, Tries, errors, events, tries
from gateway.stores.records.queries import Queries, Row
from gateway.stores.records.sums import Sum, sums

NAV = Nav("Health", "health", "Watch", 30)
api = APIRouter()

EVENTS = 60
CHARTED = 8


@dataclass(frozen=True, slots=True)
class Stored:
    """What the store says of a span: tries, errors, sums, events of all kinds, events of servers."""

    tries: Tries
    errors: Errors
    sums: list[Sum]
    events: list[Row]
    server_events: list[Row]


def stored(queries: Queries, parts: Bins) -> Stored:
    """Ask for all of it; at most 20,000 rows of each kind are looked at."""
    span = parts.span
    return Stored(
        tries(queries.run, span.since_us, span.until_us),
        errors(queries.run, span.since_us, span.until_us),
        sums(queries.run, parts.wanted()),
        events(queries.run, ALL, span.since_us, span.until_us, EVENTS),
        events(queries.run, KINDS, span.since_us, span.until_us),
    )


@api.get("/health")
async def health(view: ViewerPage, span: ChosenSpan) -> Response:
    """Show the page."""
    parts = bins(span)
    found = await view.ask(partial(stored, parts=parts))
    generation = view.plane.gateway.current
    servers = rows(generation, None if found.value is None else found.value.tries.counts)
    whole = experts(generation.catalog, generation.fleet)
    out = [] if found.value is None else outages_of(view.plane, found.value.server_events)
    return view.page(
        "health.html",
        NAV.path,
        span=parts.span,
        found=found,
        servers=servers,
        experts=[(one, STATES[one.level]) for one in whole],
        says=headline([row.health for row in servers], whole),
        worst=STATES[min((row.health.level for row in servers), default=Level.WELL)],
        recent=recent,
        budget=view.plane.gateway.retries,
        budget_settings=view.plane.gateway.settings.retries,
        errors=[] if found.value is None else error_rows(found.value.errors.counts),
        happened=[] if found.value is None else [told(event) for event in found.value.events],
        chart=outage_chart(parts, out),
        workers=view.plane.workers,
    )


@api.get("/health/live.json")
async def live(view: ViewerPage) -> Response:
    """Return what changes on the page; no store is asked."""
    gateway = view.plane.gateway
    generation = gateway.current
    found = rows(generation)
    whole = experts(generation.catalog, generation.fleet)
    worst = min((row.health.level for row in found), default=Level.WELL)
    budget = gateway.retries
    return live_answer(
        view.request,
        {
            **figures(found),
            **{f"expert-{one.name}": {"text": one.word, "state": STATES[one.level]} for one in whole},
            "says": {
                "text": headline([row.health for row in found], whole),
                "state": STATES[worst],
            },
            "budget": f"{budget.retries} of {budget.limit}",
            "budget-waiting": str(budget.waiting),
            "budget-exhausted": str(budget.exhausted),
        },
    )


@api.post("/health/switch")
async def switch(view: AdminPage) -> Response:
    """Switch a server off or on, then show the page that asked for it."""
    fields = await read_form(view.request, view.plane)
    if fields.get("on") not in ("true", "false"):
        raise InvalidRequest("`on` must be true or false.", param="on")
    await switch_server(view.plane, view.principal, fields.get("url", ""), on=fields["on"] == "true")
    expert = fields.get("expert", "")
    return view.see_other(f"experts/{expert}" if expert in view.plane.gateway.catalog.experts else NAV.path)


@dataclass(frozen=True, slots=True)
class ErrorRow:
    """Requests that ended in the same error: its code and status, how many, the newest, whom they were for."""

    error: str
    status: int
    count: int
    last_us: int
    decided: str


def error_rows(counts: list[ErrorCount]) -> list[ErrorRow]:
    """Return one row for each error: those of ours and of servers before those of clients, then the most first."""
    alike: dict[tuple[str, int], list[ErrorCount]] = {}
    for one in counts:
        alike.setdefault((one.error, one.status), []).append(one)
    found = [
        ErrorRow(
            error,
            status,
            sum(one.count for one in mine),
            max(one.last_us for one in mine),
            ", ".join(f"{one.decided} {one.count}" for one in mine if one.decided),
        )
        for (error, status), mine in alike.items()
    ]
    return sorted(found, key=lambda row: (400 <= row.status < 500, -row.count, row.error))


def outages_of(plane: Plane, happened: list[Row], urls: list[str] | None = None) -> list[Outage]:
    """Return outages from events, the newest first, as far as this process's start has not ended them."""
    states = plane.gateway.current.fleet.states
    out_now = {
        url for url, state in states.items() if state.disabled or not state.up or state.breaker.open_until is not None
    }
    return ended_by_start(outages(happened, urls), microseconds(plane.started_at), out_now)


def outage_chart(parts: Bins, found: list[Outage]) -> Chart:
    """Return which share of each part of the span servers were out; those that never were are left out."""
    shown = list(dict.fromkeys(one.upstream for one in found))[:CHARTED]
    now_us = parts.span.until_us
    series = [Series(url, share_out(found, url, parts.starts, parts.part_s, now_us), shape="area") for url in shown]
    return Chart(
        "outages",
        "Share of time that a server was out: ejected, down or switched off",
        parts.x,
        series,
        unit="share",
        top=1.0,
        empty="No server was out in this span of time.",
    )
