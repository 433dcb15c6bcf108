"""What answers cost, and what the generalist alone would have cost. Adds nothing up: `admin.cost_report` does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate

from fastapi import APIRouter
from starlette.responses import Response

from gateway.admin.cost_report import NOT_COMPARED, PINNED, CostReport, Money, cost_report
from gateway.costs import Unpriced
from gateway.dashboard.charts import Chart, Mark, Series, gaps_filled
from gateway.dashboard.links import Links
from gateway.dashboard.navigation import Nav
from gateway.dashboard.spans import ChosenSpan
from gateway.dashboard.view import ViewerPage

NAV = Nav("Cost", "cost", "Understand", 30)
api = APIRouter()

WHYS = {
    PINNED: "The client named the expert, so routing decided nothing.",
    Unpriced.NO_ANSWER.value: "No expert answered.",
    Unpriced.NO_USAGE.value: "The answer does not say how many tokens it has: an error, or a stream that broke.",
    Unpriced.NO_PRICE.value: "The expert has no price in the configuration.",
    Unpriced.EXTRA.value: "A strategy also asked an expert that has no price: the cost is not wholly known.",
    NOT_COMPARED: "The generalist has no price, or does not serve that endpoint.",
}


@api.get("/cost")
async def cost(view: ViewerPage, span: ChosenSpan) -> Response:
    """Show money over time, by domain and by expert."""
    found = await view.ask(lambda queries: cost_report(queries, span.since_s, span.until_s))
    report = found.value
    charts = [] if report is None else _charts(report, view.links, view.plane.gateway.catalog.currency)
    catalog = view.plane.gateway.catalog
    unpriced = [expert.name for expert in catalog.experts.values() if expert.price is None]
    return await view.page_in_thread(
        "cost.html",
        NAV.path,
        span=span,
        why=found.why or ("no_traffic" if report is not None and not report.total.requests else None),
        report=report,
        charts=charts,
        whys=WHYS,
        experts_without_price=unpriced,
        price_version=catalog.price_version,
    )


def _charts(report: CostReport, links: Links, currency: str) -> list[Chart]:
    marks = [Mark(at_us / 1e6, f"prices {version[:8]}") for at_us, version in report.price_changes]
    x, spent = _over_time(report, lambda point: point.spent)
    _, baseline = _over_time(report, lambda point: point.baseline)
    behind = [_requests(links, int(at_s), report.span_s) for at_s in x]
    total = report.total
    summary = f"{total.spent:.4g} {currency} against {total.baseline:.4g} {currency} for {total.compared} requests. "
    summary += "The last point is not over yet."
    lines = [Series("spent", spent, behind), Series("generalist alone", baseline)]
    sums = [Series(line.name, list(accumulate(value or 0.0 for value in line.values))) for line in lines]
    saved = [b - a for a, b in zip(sums[0].values, sums[1].values, strict=True) if a is not None and b is not None]
    saved_text = f"Saved by the end: {total.saving:.4g} {currency}."
    summed = [*sums, Series("saved", saved, shape="area")]
    return [
        _chart("cost-time", "Spent, and what the generalist alone would have cost", x, lines, summary, marks, currency),
        _chart("cost-sum", "The same, added up since the start of the span", x, summed, saved_text, marks, currency),
    ]


def _chart(
    name: str,
    title: str,
    x: Sequence[float],
    lines: Sequence[Series],
    summary: str,
    marks: Sequence[Mark],
    currency: str,
) -> Chart:
    return Chart(name, title, x, lines, unit="money", currency=currency, marks=marks, summary=summary)


def _over_time(report: CostReport, value: Callable[[Money], float]) -> tuple[list[float], list[float | None]]:
    found = {point.at_s: value(point) for point in report.points if point.at_s is not None}
    return gaps_filled(report.since_s, report.until_s, report.span_s, found)


def _requests(links: Links, at_s: int, span_s: int) -> str:
    return links.page("requests", since_us=at_s * 1_000_000, until_us=(at_s + span_s) * 1_000_000)
