"""One expert: volume, times, errors, outages, cost, the domains it wins, its servers. Changes nothing by itself."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Path
from starlette.responses import Response

from gateway.admin.errors import NotThere
from gateway.admin.failing import experts
from gateway.admin.outages import KINDS, Outage
from gateway.admin.routes.fleet import expert_row
from gateway.admin.traffic import added, over_time
from gateway.dashboard.bins import POINTS, Bins, bins, whole
from gateway.dashboard.charts import Chart, Mark, Series
from gateway.dashboard.formats import seconds
from gateway.dashboard.happenings import CONFIG, Happening, marks, told
from gateway.dashboard.links import Links
from gateway.dashboard.live import live_answer
from gateway.dashboard.pages.health import outage_chart, outages_of
from gateway.dashboard.servers import STATES, figures, recent, rows
from gateway.dashboard.spans import ChosenSpan
from gateway.dashboard.view import View, ViewerPage
from gateway.stores.records.counts import ErrorCount, Tries, TryCount, errors, events, tries
from gateway.stores.records.filters import NOTHING
from gateway.stores.records.histograms import CONFIDENCE, DURATION, FIRST_BYTE, Counts, part
from gateway.stores.records.queries import Point, Queries, Row
from gateway.stores.records.sums import Sum, sums
from gateway.types import Expert

NAV = None
api = APIRouter()

Name = Annotated[str, Path(max_length=500)]
EVENTS = 40


@dataclass(frozen=True, slots=True)
class Stored:
    """What the store says of one expert.

    Attributes:
        sums: its requests over time, by status class.
        points: its histograms over time.
        domains: sums by domain and expert, of all experts.
        confident: its histograms by domain.
        tries: of all experts.
        errors: of requests that it was to answer.
        events: of servers and of the configuration.
    """

    sums: list[Sum]
    points: list[Point]
    domains: list[Sum]
    confident: list[Point]
    tries: Tries
    errors: list[ErrorCount]
    events: list[Row]


def stored(queries: Queries, parts: Bins, name: str) -> Stored:
    """Ask for all of it."""
    span, run = parts.span, queries.run
    mine = parts.wanted(chosen=name)
    return Stored(
        sums(run, mine, ("status_class",), over_time=True),
        queries.series(mine, points=POINTS),
        sums(run, parts.wanted(), ("domain", "chosen")),
        queries.totals(mine, "domain", POINTS),
        tries(run, span.since_us, span.until_us),
        [one for one in errors(run, span.since_us, span.until_us).counts if one.decided == name],
        events(run, (*CONFIG, *KINDS), span.since_us, span.until_us),
    )


@dataclass(frozen=True, slots=True)
class DomainRow:
    """One domain of which the expert answers requests.

    Attributes:
        domain: its name; "" for requests that were not classified.
        requests: those the expert answered.
        share: of all of the domain that somebody answered.
        threshold: the smallest confidence that is acted on, now.
        low: requests below it.
        scored: requests with a confidence.
    """

    domain: str
    requests: float
    share: float
    threshold: float
    low: int
    scored: int


@api.get("/experts/{name}/live.json")
async def live(view: ViewerPage, name: Name) -> Response:
    """Return what changes on the page; no store is asked."""
    expert = _expert(view, name)
    generation = view.plane.gateway.current
    health = next(one for one in experts(generation.catalog, generation.fleet) if one.name == name)
    found = rows(generation, urls=[upstream.url for upstream in expert.upstreams])
    return live_answer(view.request, {**figures(found), "health": {"text": health.word, "state": STATES[health.level]}})


@api.get("/experts/{name}")
async def page(view: ViewerPage, name: Name, span: ChosenSpan) -> Response:
    """Show the page."""
    expert = _expert(view, name)
    parts = bins(span)
    found = await view.ask(partial(stored, parts=parts, name=name))
    generation = view.plane.gateway.current
    health = next(one for one in experts(generation.catalog, generation.fleet) if one.name == name)
    urls = [upstream.url for upstream in expert.upstreams]
    seen = found.value
    happened = [] if seen is None else _happened(seen, urls)
    return view.page(
        "expert.html",
        "experts",
        span=parts.span,
        found=found,
        expert=expert,
        health=health,
        state=STATES[health.level],
        facts=expert_row(generation, expert),
        is_generalist=expert.name == generation.catalog.generalist.name,
        servers=rows(generation, None if seen is None else _tried(seen, name), urls),
        recent=recent,
        nothing=NOTHING,
        workers=view.plane.workers,
        total=None if seen is None else _total(seen),
        tries=None if seen is None else _failed(seen, name),
        times=None if seen is None else _times(seen.points),
        domains=[] if seen is None else _domains(view, seen, name),
        charts=[]
        if seen is None
        else _charts(seen, parts, view.links, expert, marks(happened), outages_of(view.plane, seen.events, urls)),
        happened=happened[:EVENTS],
    )


def _expert(view: View, name: str) -> Expert:
    expert = view.plane.gateway.catalog.experts.get(name)
    if expert is None:
        raise NotThere("No expert of this name is configured.", code="expert_not_found")
    return expert


def _happened(seen: Stored, urls: list[str]) -> list[Happening]:
    return [one for one in map(told, seen.events) if not one.upstream or one.upstream in urls]


def _tried(seen: Stored, name: str) -> list[TryCount]:
    return [one for one in seen.tries.counts if one.expert == name]


def _failed(seen: Stored, name: str) -> tuple[int, int]:
    known = [one for one in _tried(seen, name) if one.is_over]
    return sum(one.count for one in known if one.failed), sum(one.count for one in known)


def _total(seen: Stored) -> dict[str, float]:
    """Return the expert's sums, and how many requests all experts answered."""
    found = dict.fromkeys(("requests", "cost", "saving", "input_tokens", "output_tokens", "failovers"), 0.0)
    for one in seen.sums:
        for key in found:
            found[key] += one[key]
    return {**found, "all": sum(one["requests"] for one in seen.domains if one.names[1])}


def _times(points: list[Point]) -> dict[str, float | None]:
    scales = {"first": FIRST_BYTE, "whole": DURATION}
    return {
        f"{name}_p{share:.0%}"[:-1]: whole(points, scale, share) for name, scale in scales.items() for share in SHARES
    }


SHARES = (0.5, 0.95, 0.99)


def _domains(view: View, seen: Stored, name: str) -> list[DomainRow]:
    """Return the domains that the expert wins requests of, the most first."""
    answered = added([one for one in seen.domains if one.names[1]], 0)
    counts = {point.name: point.counts for point in seen.confident}
    thresholds = view.plane.gateway.current.pipeline.thresholds
    found = []
    for one in seen.domains:
        domain, chosen = one.names
        if chosen == name:
            threshold = thresholds.of(domain)
            low, scored = _below(counts.get(domain), threshold)
            share = one["requests"] / answered[domain]["requests"]
            found.append(DomainRow(domain, one["requests"], share, threshold, low, scored))
    return sorted(found, key=lambda row: (-row.requests, row.domain))


def _below(counts: Counts | None, threshold: float) -> tuple[int, int]:
    """Return how many confidences are below a threshold, whole hundredths of it, and how many there are."""
    if counts is None:
        return 0, 0
    buckets = part(CONFIDENCE, counts)
    return sum(buckets[: round(threshold * len(buckets))]), sum(buckets)


def _charts(
    seen: Stored, parts: Bins, links: Links, expert: Expert, marked: list[Mark], out: list[Outage]
) -> list[Chart]:
    by_status = over_time(seen.sums, 0)
    volume = [
        Series(
            status, parts.row(values), parts.links(links, chosen=expert.name, status_class=status[0].strip("0") or None)
        )
        for status, values in sorted(by_status.items())
    ]
    named = {
        "first": ("Time to the first byte of streams", FIRST_BYTE),
        "whole": ("Time to the whole answer", DURATION),
    }
    about = f"Each point is of {seconds(parts.part_s)}, the last one so far."
    found = [
        Chart("volume", "Requests it answered, by status", parts.x, volume, stacked=True, marks=marked, summary=about)
    ]
    for id, (title, scale) in named.items():
        lines = [
            Series(
                f"p{share * 100:g}", parts.quantiles(seen.points, scale, share), parts.links(links, chosen=expert.name)
            )
            for share in SHARES
        ]
        found.append(Chart(id, title, parts.x, lines, unit="seconds", marks=marked, summary=about))
    return [*found, outage_chart(parts, out)]
