"""Where requests spend their time, stage by stage. Takes no percentile: `admin.latency_report` does."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import Response

from gateway.admin.latency_report import FEW, LatencyReport, Percentiles, TimePoint, latency_report
from gateway.dashboard.charts import Chart, Series, Values
from gateway.dashboard.formats import seconds
from gateway.dashboard.links import Links
from gateway.dashboard.navigation import Nav
from gateway.dashboard.spans import ChosenSpan
from gateway.dashboard.view import ViewerPage

NAV = Nav("Latency", "latency", "Understand", 40)
api = APIRouter()

MOST_EXPERTS = 7
STAGES = {
    "receive": ("Receive", "From the request's first byte to its last: the caller's connection."),
    "classify": ("Classify", "Scoring the prompt, the wait for the classifier included."),
    "overhead": (
        "Own work in all",
        "From the request's last byte to the first byte sent on, classifying included.",
    ),
    "queue": ("Queue", "Waiting for a free place at the expert's servers."),
    "connect": ("Connect", "Opening the connection to the server."),
    "first_byte": ("First byte", "From the request's arrival to the answer's first byte."),
    "per_token": ("Per output token", "Between two tokens of a stream, after the first one."),
    "end_to_end": ("End to end", "From the request's arrival to the answer's last byte."),
}


@api.get("/latency")
async def latency(view: ViewerPage, span: ChosenSpan) -> Response:
    """Show percentiles over time, by stage and by expert."""
    found = await view.ask(lambda queries: latency_report(queries, span.since_s, span.until_s))
    report = found.value
    stages = {} if report is None else {stage.name: stage for stage in report.stages}
    return await view.page_in_thread(
        "latency.html",
        NAV.path,
        span=span,
        why=found.why or ("no_traffic" if report is not None and not report.points else None),
        report=report,
        stages=stages,
        stage_texts=STAGES,
        few=FEW,
        charts=[] if report is None else _charts(report, view.links),
    )


def _charts(report: LatencyReport, links: Links) -> list[Chart]:
    x = [float(at_s) for at_s in range(report.since_s, report.until_s, report.span_s)]
    points = {float(point.at_s): point for point in report.points}
    return [
        _percentiles("latency-first", "Time to the first byte", report, links, x, points, "first_byte"),
        _percentiles("latency-all", "End to end", report, links, x, points, "end_to_end"),
        _by_expert(report, links, x),
    ]


def _percentiles(
    name: str,
    title: str,
    report: LatencyReport,
    links: Links,
    x: list[float],
    points: dict[float, TimePoint],
    measure: str,
) -> Chart:
    behind = [_requests(links, at_s, report.span_s) for at_s in x]

    def values(share: str) -> Values:
        return [getattr(getattr(points[at_s], measure), share) if at_s in points else None for at_s in x]

    # One line with links is enough: a click anywhere leads along the only one.
    lines = [Series(share, values(share), behind if share == "p95" else ()) for share in ("p50", "p95", "p99")]
    highest = max((value for value in lines[1].values if value is not None), default=None)
    summary = "All requests, from histograms whose steps are 19 % wide."
    if measure == "first_byte":
        summary = "Streams and whole answers together; the latter have their first byte near the end."
    if highest is not None:
        summary += f" Highest p95: {seconds(highest)}."
    return Chart(name, title, x, lines, unit="seconds", summary=summary)


def _by_expert(report: LatencyReport, links: Links, x: list[float]) -> Chart:
    shown = [expert.name for expert in report.experts if expert.name][:MOST_EXPERTS]
    found: dict[str, dict[float, Percentiles]] = {}
    for point in report.expert_points:
        found.setdefault(point.name, {})[float(point.at_s)] = point.end_to_end
    lines = [
        Series(
            name,
            [found[name][at_s].p95 if at_s in found[name] else None for at_s in x],
            [_requests(links, at_s, report.span_s, chosen=name) for at_s in x],
        )
        for name in shown
    ]
    return Chart("latency-experts", "End to end by expert, p95", x, lines, unit="seconds")


def _requests(links: Links, at_s: float, span_s: int, **filters: str) -> str:
    since_us = int(at_s) * 1_000_000
    return links.page("requests", since_us=since_us, until_us=since_us + span_s * 1_000_000, **filters)
