"""The charts of the page on confidence: histograms by domain, curves over thresholds, reliability. Asks no store."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from gateway.admin.confidence_report import ConfidenceReport, DomainConfidence
from gateway.admin.reliability import Reliability
from gateway.admin.what_if import STEPS, Curve
from gateway.dashboard.charts import Chart, Mark, Series
from gateway.dashboard.links import Links
from gateway.dashboard.spans import Span

BINS = 20
MOST_SERIES = 6
OTHERS = "other domains"
_STEPS = [step / STEPS for step in range(STEPS + 1)]


def histograms(report: ConfidenceReport, domain: str | None, marks: Sequence[Mark], links: Links) -> list[Chart]:
    """Return histograms of confidence and margin.

    Args:
        report: of the span.
        domain: only this one; None: all, stacked.
        marks: the thresholds in effect, to draw into that of confidence.
        links: for the requests behind each bar.
    """
    span = Span("", report.since_s, report.until_s)
    shown = [one for one in report.domains if domain in (None, one.domain)]
    starts = [place / BINS for place in range(BINS)]
    labels = [f"{place / BINS:.2f} to {(place + 1) / BINS:.2f}" for place in range(BINS)]

    def behind(field: str, name: str | None, place: int) -> str:
        # What is 1 exactly is in the last bar.
        below = (place + 1) / BINS if place + 1 < BINS else 1.01
        return links.requests(span, domain=name, **{f"{field}_from": place / BINS, f"{field}_below": below})

    def series(field: str, counts: Callable[[DomainConfidence], Sequence[int]]) -> list[Series]:
        apart = shown if len(shown) <= MOST_SERIES else shown[: MOST_SERIES - 1]
        found = []
        for one in apart:
            targets = [behind(field, one.domain, place) for place in range(BINS)]
            found.append(Series(one.domain, _bars([counts(one)]), targets, "bars"))
        rest = shown[len(found) :]
        return [*found, Series(OTHERS, _bars([counts(one) for one in rest]), (), "bars")] if rest else found

    requests = sum(one.requests for one in shown)
    below = sum(one.below for one in shown)
    of = "" if domain is None else f" of {domain}"
    common: dict[str, Any] = {
        "x": starts,
        "kind": "numeric",
        "x_unit": "plain",
        "x_labels": labels,
        "stacked": len(shown) > 1,
    }
    return [
        Chart(
            id="confidence-histogram",
            title=f"How sure the classifier was{of}: probability of the best domain",
            series=series("confidence", lambda one: one.confidence),
            x_title="Confidence",
            marks=marks,
            summary=f"{requests} scored requests; {below} of them are below the threshold of their domain (dashed).",
            empty="No request of this span was scored.",
            **common,
        ),
        Chart(
            id="margin-histogram",
            title=f"How far ahead the best domain was of the second{of}",
            series=series("margin", lambda one: one.margin),
            x_title="Margin",
            summary="A small margin is a prompt between two domains.",
            empty="No request of this span was scored.",
            **common,
        ),
    ]


def _bars(counts: Sequence[Sequence[int]]) -> list[float]:
    width = STEPS // BINS
    return [float(sum(sum(one[place * width : (place + 1) * width]) for one in counts)) for place in range(BINS)]


def curves(curve: Curve, domain: str | None, marks: Sequence[Mark], currency: str) -> list[Chart]:
    """Return the generalist's share and the cost over thresholds.

    Args:
        curve: of the requests looked at.
        domain: the one whose threshold is tried; None: all have the same.
        marks: the threshold in effect, where there is one for all that is tried.
        currency: of the cost.
    """
    points = [curve.at(step if domain is None else {domain: step}) for step in _STEPS]
    shares = [experts[curve.generalist] / max(1, curve.requests) for experts, _ in points]
    was = curve.before.get(curve.generalist, 0) / max(1, curve.requests)
    in_effect, cost_in_effect = curve.at()
    now = in_effect[curve.generalist] / max(1, curve.requests)
    common: dict[str, Any] = {
        "x": _STEPS,
        "kind": "numeric",
        "x_unit": "plain",
        "x_title": "Smallest confidence",
        "marks": marks,
    }
    labels = [f"{step:.2f}" for step in _STEPS]
    steps = len(_STEPS)
    money = bool(curve.requests > curve.unpriced)
    return [
        Chart(
            id="what-if-share",
            title="Share of the generalist by threshold",
            series=[
                Series("with the threshold", shares, shape="area"),
                Series("as it was", [was] * steps),
                Series("with what is in effect now", [now] * steps),
            ],
            unit="share",
            x_labels=labels,
            summary=f"As it was: {100 * was:.1f} %; with the thresholds in effect now: {100 * now:.1f} %.",
            **common,
        ),
        Chart(
            id="what-if-cost",
            title="Cost by threshold",
            series=[
                Series("with the threshold", [cost for _, cost in points] if money else [None] * steps, shape="area"),
                Series("as it was", [curve.cost_before if money else None] * steps),
                Series("with what is in effect now", [cost_in_effect if money else None] * steps),
            ],
            unit="money",
            currency=currency,
            x_labels=labels,
            summary=f"As it was: {curve.cost_before:.4g} {currency}; with the thresholds in effect now: "
            f"{cost_in_effect:.4g} {currency}.",
            empty="The cost of none of these requests is known: give experts a price in the configuration.",
            **common,
        ),
    ]


def reliability_chart(found: Reliability) -> Chart:
    """Return how often the classifier was right by how sure it was; one point for each bin with labels."""
    bins = [one for one in found.bins if one.count]
    error = "" if found.error is None else f" Mean distance from the diagonal: {100 * found.error:.1f} points."
    return Chart(
        id="reliability",
        title="How often it was right, by how sure it was",
        x=[one.confidence or 0.0 for one in bins],
        series=[
            Series("right", [one.share for one in bins]),
            Series("if confidence were exact", [one.confidence for one in bins]),
            Series("95 % interval, low", [one.share_low for one in bins]),
            Series("95 % interval, high", [one.share_high for one in bins]),
        ],
        kind="numeric",
        unit="share",
        x_title="Confidence",
        x_unit="plain",
        x_labels=[f"{one.low:.1f} to {one.high:.1f} ({one.count} labelled)" for one in bins],
        top=1.0,
        summary=f"{found.right} of {found.count} labelled requests had the right domain.{error}",
    )
