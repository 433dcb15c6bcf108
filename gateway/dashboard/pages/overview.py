"""Overview: is all well, how much goes through, where it goes, what it saves. Changes nothing."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from fastapi import APIRouter
from starlette.responses import Response

from gateway.admin.failing import ExpertHealth, Level, experts, headline, servers
from gateway.admin.plane import Plane
from gateway.admin.traffic import Kind, added, kinds, kinds_over_time
from gateway.dashboard.bins import POINTS, Bins, bins, whole
from gateway.dashboard.charts import Chart, Mark, Series
from gateway.dashboard.formats import number, percent, seconds
from gateway.dashboard.happenings import CONFIG, SERVERS, STORE, Happening, marks, told
from gateway.dashboard.links import Links
from gateway.dashboard.live import Figure, live_answer
from gateway.dashboard.navigation import Nav
from gateway.dashboard.servers import STATES
from gateway.dashboard.spans import ChosenSpan, Span
from gateway.dashboard.view import ViewerPage
from gateway.record_writer import WriterState
from gateway.stores.records.counts import events
from gateway.stores.records.filters import NOTHING
from gateway.stores.records.histograms import DURATION, FIRST_BYTE
from gateway.stores.records.queries import Point, Queries, RollupFilter
from gateway.stores.records.rollups import DAY_S
from gateway.stores.records.sums import Sum, sums
from gateway.types import GENERALIST

NAV = Nav("Overview", "", "Watch", 10)
api = APIRouter()

KINDS: dict[Kind, tuple[str, dict[str, object]]] = {
    Kind.SPECIALIST: ("Specialist", {"not_chosen": GENERALIST, "failed_over": "false", "status_class": 2}),
    Kind.GENERALIST: ("Generalist", {"chosen": GENERALIST, "failed_over": "false", "status_class": 2}),
    Kind.FALLBACK: ("Fallback", {"failed_over": "true", "status_class": 2}),
    Kind.REFUSED: ("Refused or left", {"status_class": 4}),
    Kind.ERROR: ("Error", {"status_class": 5}),
}
NO_CHANGE_S = 30 * DAY_S
"""How far back the last change of the configuration is looked for."""


@dataclass(frozen=True, slots=True)
class Stored:
    """What the store says: sums over time and today's, histograms over time, what happened, the last change."""

    sums: list[Sum]
    today: Sum | None
    points: list[Point]
    happened: list[Happening]
    changed: Happening | None


def stored(queries: Queries, parts: Bins) -> Stored:
    """Ask for all of it; only rollups and events are read."""
    span, run = parts.span, queries.run
    midnight = span.until_s // DAY_S * DAY_S
    changes = events(run, CONFIG, (span.until_s - NO_CHANGE_S) * 1_000_000, span.until_us)
    applied = [told(event) for event in changes if event["detail"].get("outcome") == "applied"]
    today = sums(run, RollupFilter(midnight, span.until_s))
    return Stored(
        sums(run, parts.wanted(), ("chosen", "status_class"), over_time=True),
        today[0] if today else None,
        queries.series(parts.wanted(), points=POINTS),
        [told(event) for event in events(run, (*CONFIG, *SERVERS, *STORE), span.since_us, span.until_us)],
        applied[0] if applied else None,
    )


@api.get("/")
async def overview(view: ViewerPage, span: ChosenSpan) -> Response:
    """Show the page."""
    parts = bins(span)
    found = await view.ask(partial(stored, parts=parts))
    plane = view.plane
    generation = plane.gateway.current
    whole_experts = experts(generation.catalog, generation.fleet)
    live = figures(plane)
    seen = found.value
    total = 0.0 if seen is None else sum(one["requests"] for one in seen.sums)
    return view.page(
        "overview.html",
        NAV.path,
        span=parts.span,
        found=found,
        total=total,
        kinds=[] if seen is None else shares(seen.sums, parts.span, view.links),
        rate=total / parts.span.length_s,
        quantiles=None if seen is None else times(seen.points),
        day=Span("today", parts.span.until_s // DAY_S * DAY_S, parts.span.until_s),
        charts=[] if seen is None else charts(seen, parts, view.links, names_of(plane)),
        experts=[(one, STATES[one.level]) for one in whole_experts],
        by_expert={} if seen is None else added(seen.sums, 0),
        writer=None if plane.gateway.records is None else plane.gateway.records.state(),
        started_at=plane.started_at,
        workers=plane.workers,
        live=live,
        nothing=NOTHING,
    )


@api.get("/overview/live.json")
async def live(view: ViewerPage) -> Response:
    """Return what changes on the page; no store is asked."""
    return live_answer(view.request, figures(view.plane))


@dataclass(frozen=True, slots=True)
class Part:
    """A kind of requests on the page: how many, which share, and where the requests are."""

    kind: str
    name: str
    count: float
    share: float | None
    link: str


def shares(found: list[Sum], span: Span, links: Links) -> list[Part]:
    """Return the kinds of requests with their shares."""
    counts = kinds(found)
    total = sum(counts.values())
    return [
        Part(kind.value, name, counts[kind], counts[kind] / total if total else None, links.requests(span, **to))
        for kind, (name, to) in KINDS.items()
    ]


def times(points: list[Point]) -> dict[str, float | None]:
    """Return percentiles of the whole span, in seconds."""
    scales = {"first": FIRST_BYTE, "whole": DURATION}
    wanted = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
    return {f"{name}_{p}": whole(points, scale, q) for name, scale in scales.items() for p, q in wanted.items()}


def charts(seen: Stored, parts: Bins, links: Links, names: dict[str, str]) -> list[Chart]:
    """Return the charts of requests by kind and of the time to the first byte."""
    rows = kinds_over_time(seen.sums)
    marked: list[Mark] = marks(seen.happened, names)
    by_kind = [Series(name, parts.row(rows[k]), parts.links(links, **to)) for k, (name, to) in KINDS.items()]
    total = sum(one["requests"] for one in seen.sums)
    lines = [
        Series(name, parts.quantiles(seen.points, FIRST_BYTE, share), parts.links(links))
        for name, share in (("median", 0.5), ("95th percentile", 0.95))
    ]
    counted = number(total)
    return [
        Chart(
            "by-kind",
            "Requests by who answered and how it ended",
            parts.x,
            by_kind if total else [],
            stacked=True,
            marks=marked,
            summary=f"{counted} requests; each point counts those of {seconds(parts.part_s)}, the last one so far.",
        ),
        Chart(
            "first-byte",
            "Time to the first byte of streamed answers",
            parts.x,
            lines,
            unit="seconds",
            marks=marked,
            empty="No streamed answer in this span of time.",
            summary="From a request's arrival on; plain answers come in one piece and have no such time.",
        ),
    ]


def names_of(plane: Plane) -> dict[str, str]:
    """Return the name of the first expert at each server's address."""
    configured = list(plane.gateway.catalog.experts.values())
    return {upstream.url: expert.name for expert in reversed(configured) for upstream in expert.upstreams}


def figures(plane: Plane) -> dict[str, Figure]:
    """Return what changes while the page is open."""
    gateway = plane.gateway
    generation, rate = gateway.current, gateway.lately.rate()
    whole_experts: list[ExpertHealth] = experts(generation.catalog, generation.fleet)
    found = servers(generation.catalog, generation.fleet)
    worst = min((one.level for one in found), default=Level.WELL)
    p99 = gateway.lately.overhead(0.99)[0]
    return {
        "says": {"text": headline(found, whole_experts), "state": STATES[worst]},
        "running": f"{gateway.admission.inside} of {gateway.admission.limit}",
        "rate": f"{rate.per_s:.3g}",
        "failed": percent(rate.failed),
        "overhead": seconds(p99),
        **{f"expert-{one.name}": {"text": one.word, "state": STATES[one.level]} for one in whole_experts},
        **_writer(None if gateway.records is None else gateway.records.state()),
    }


def _writer(state: WriterState | None) -> dict[str, Figure]:
    if state is None:
        return {}
    return {
        "queued": number(state.queued),
        "dropped": {"text": number(state.dropped), "state": "bad" if state.dropped else "good"},
        "store": {"text": "fails" if state.failing else "writes", "state": "bad" if state.failing else "good"},
        "store-why": state.failing or "",
    }
