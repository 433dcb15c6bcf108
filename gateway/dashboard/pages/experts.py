"""Experts: who gets how much of which traffic, and how each one does. Changes nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from fastapi import APIRouter
from starlette.responses import Response

from gateway.admin.failing import ExpertHealth, experts
from gateway.admin.traffic import added, largest, over_time
from gateway.dashboard.bins import POINTS, Bins, bins
from gateway.dashboard.charts import Chart, Mark, Series
from gateway.dashboard.formats import seconds
from gateway.dashboard.happenings import CONFIG, SERVERS, marks, told
from gateway.dashboard.links import Links
from gateway.dashboard.live import live_answer
from gateway.dashboard.navigation import Nav
from gateway.dashboard.pages.overview import names_of
from gateway.dashboard.servers import STATES
from gateway.dashboard.spans import ChosenSpan
from gateway.dashboard.view import ViewerPage
from gateway.stores.records.counts import Tries, events, tries
from gateway.stores.records.filters import NOTHING
from gateway.stores.records.histograms import DURATION, FIRST_BYTE
from gateway.stores.records.queries import Point, Queries, Row
from gateway.stores.records.sums import Sum, sums
from gateway.types import Expert

NAV = Nav("Experts", "experts", "Watch", 20)
api = APIRouter()

SERIES = 8
REST = "all others"


@dataclass(frozen=True, slots=True)
class Stored:
    """What the store says: sums by domain and expert over time, histograms by expert, tries, events."""

    sums: list[Sum]
    points: dict[str, Point]
    tries: Tries
    events: list[Row]


def stored(queries: Queries, parts: Bins) -> Stored:
    """Ask for all of it."""
    span, run = parts.span, queries.run
    return Stored(
        sums(run, parts.wanted(), ("domain", "chosen"), over_time=True),
        {point.name: point for point in queries.totals(parts.wanted(), "chosen", POINTS)},
        tries(run, span.since_us, span.until_us),
        events(run, (*CONFIG, *SERVERS), span.since_us, span.until_us),
    )


@dataclass(frozen=True, slots=True)
class ExpertRow:
    """One expert of the table.

    Attributes:
        expert: what is configured; None: it has answered and is configured no more.
        name: its name.
        health: how it does now; None as well.
        state: the same as a colour.
        requests, cost: of the span; None where the store tells nothing.
        share: of all answered requests.
        first_p95, whole_p95: seconds.
        tries, failed: at its servers, of the newest.
    """

    expert: Expert | None
    name: str
    health: ExpertHealth | None
    state: str
    requests: float | None = None
    share: float | None = None
    cost: float | None = None
    first_p95: float | None = None
    whole_p95: float | None = None
    tries: int | None = None
    failed: int | None = None


@api.get("/experts")
async def page(view: ViewerPage, span: ChosenSpan) -> Response:
    """Show the page."""
    parts = bins(span)
    found = await view.ask(partial(stored, parts=parts))
    generation = view.plane.gateway.current
    health = {one.name: one for one in experts(generation.catalog, generation.fleet)}
    seen = found.value
    return view.page(
        "experts.html",
        NAV.path,
        span=parts.span,
        found=found,
        rows=rows(seen, generation.catalog.experts, health),
        charts=[] if seen is None else charts(seen, parts, view.links, names_of(view.plane)),
    )


@api.get("/experts-live.json")  # below `/experts/` it could be an expert's name
async def live(view: ViewerPage) -> Response:
    """Return what changes on the page; no store is asked."""
    generation = view.plane.gateway.current
    return live_answer(
        view.request,
        {
            f"expert-{one.name}": {"text": one.word, "state": STATES[one.level]}
            for one in experts(generation.catalog, generation.fleet)
        },
    )


def rows(seen: Stored | None, configured: Mapping[str, Expert], health: Mapping[str, ExpertHealth]) -> list[ExpertRow]:
    """Return all experts that are configured, then those that have answered in the span and are no more."""
    sums_by = {} if seen is None else added(seen.sums, 1)
    names = [*configured, *sorted(name for name in sums_by if name and name not in configured)]
    total = sum(one["requests"] for name, one in sums_by.items() if name)
    return [_row(name, configured.get(name), health.get(name), seen, sums_by.get(name), total) for name in names]


def _row(
    name: str, expert: Expert | None, health: ExpertHealth | None, seen: Stored | None, mine: Sum | None, total: float
) -> ExpertRow:
    state = "off" if health is None else STATES[health.level]
    if seen is None:
        return ExpertRow(expert, name, health, state)
    point = seen.points.get(name)
    tried = [one for one in seen.tries.counts if one.expert == name and one.is_over]
    return ExpertRow(
        expert,
        name,
        health,
        state,
        requests=0.0 if mine is None else mine["requests"],
        share=mine["requests"] / total if mine is not None and total else None,
        cost=None if mine is None else mine["cost"],
        first_p95=None if point is None else FIRST_BYTE.quantile(point.counts, 0.95),
        whole_p95=None if point is None else DURATION.quantile(point.counts, 0.95),
        tries=sum(one.count for one in tried),
        failed=sum(one.count for one in tried if one.failed),
    )


def charts(seen: Stored, parts: Bins, links: Links, names: dict[str, str]) -> list[Chart]:
    """Return traffic by domain and by expert over time."""
    marked = marks([told(event) for event in seen.events], names)
    about = f"Each point counts the requests of {seconds(parts.part_s)}, the last one so far."
    return [
        _chart("by-domain", "Requests by domain", "domain", 0, seen, parts, links, marked, about),
        _chart("by-expert", "Requests by the expert that answered", "chosen", 1, seen, parts, links, marked, about),
    ]


def _chart(
    id: str,
    title: str,
    field: str,
    place: int,
    seen: Stored,
    parts: Bins,
    links: Links,
    marked: list[Mark],
    about: str,
) -> Chart:
    none = {"domain": "not classified", "chosen": "nobody"}[field]
    shown = largest(over_time(seen.sums, place), SERIES, REST)
    series = [
        Series(
            name or none,
            parts.row(values),
            parts.links(links, **{field: name or NOTHING}) if name != REST else (),
        )
        for name, values in shown.items()
    ]
    return Chart(id, title, parts.x, series, stacked=True, marks=marked, summary=about)
