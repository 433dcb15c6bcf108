"""How sure the classifier is, and what other thresholds would have done. Counting is `confidence_report`'s."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BeforeValidator, Field
from starlette.responses import Response

from gateway.admin.confidence_report import ConfidenceReport, Tried, confidence_report, tried
from gateway.admin.labelled import Picked, labelled
from gateway.admin.what_if import STEPS, Curve, DomainCurve
from gateway.dashboard.charts import Chart, Mark
from gateway.dashboard.confidence_charts import curves, histograms, reliability_chart
from gateway.dashboard.navigation import Nav
from gateway.dashboard.spans import ChosenSpan
from gateway.dashboard.view import View, ViewerPage
from gateway.errors import InvalidRequest
from gateway.stores.records.queries import Queries
from router import Thresholds

NAV = Nav("Confidence", "confidence", "Understand", 20)
api = APIRouter()

MOST_LABELS = 10_000
MOST_CHOICES = 30
"""So many domains can be tried one by one; the slider's data must stay small."""


def _given(value: object) -> object:
    return None if value == "" else value


Share = Annotated[Annotated[float, Field(ge=0, le=1)] | None, BeforeValidator(_given)]
Name = Annotated[Annotated[str, Field(max_length=500)] | None, BeforeValidator(_given)]


@dataclass(frozen=True, slots=True)
class Question:
    """What the address asks to try; None: as in effect.

    Attributes:
        threshold: smallest confidence.
        only: the domain that it is for; None: all.
        margin, out_of_domain, disagreement: the other limits.
    """

    threshold: float | None
    only: str | None
    margin: float | None
    out_of_domain: float | None
    disagreement: float | None

    def limits(self, now: Thresholds) -> Thresholds:
        """Return what is in effect, with the other limits that are tried."""
        named = ("margin", "out_of_domain", "disagreement")
        return replace(now, **{name: value for name in named if (value := getattr(self, name)) is not None})


@dataclass(frozen=True, slots=True)
class ExpertRow:
    """How many requests an expert had, and would have."""

    name: str
    before: int
    after: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """What is shown for one threshold; the slider shows the same for all others.

    Attributes:
        threshold: which.
        experts: the generalist first, then the busiest.
        cost: of what is priced.
    """

    threshold: float
    experts: list[ExpertRow]
    cost: float


@api.get("/confidence")
async def confidence(
    view: ViewerPage,
    span: ChosenSpan,
    domain: Annotated[Name, Query()] = None,
    threshold: Annotated[Share, Query()] = None,
    only: Annotated[Name, Query()] = None,
    margin: Annotated[Share, Query()] = None,
    out_of_domain: Annotated[Share, Query()] = None,
    disagreement: Annotated[Share, Query()] = None,
    labels: Annotated[Picked, Query()] = "chance",
) -> Response:
    """Show histograms, the what-if slider and how far confidence is deserved."""
    generation = view.plane.gateway.current
    now, catalog = generation.pipeline.thresholds, generation.catalog
    for field, name in (("domain", domain), ("only", only)):
        if name is not None and name not in generation.scorer.scorer.labels:
            raise InvalidRequest("The classifier has no such domain.", param=field)
    question = Question(threshold, only, margin, out_of_domain, disagreement)
    limits = question.limits(now)

    def ask(queries: Queries) -> tuple[ConfidenceReport, Tried]:
        report = confidence_report(queries, span.since_s, span.until_s, now)
        return report, tried(queries, span.since_s, span.until_s, limits, catalog)

    found = await view.ask(ask)
    report, what_if = found.value or (None, None)
    why = found.why or ("no_traffic" if report is not None and not report.requests else None)
    return view.page(
        "confidence.html",
        NAV.path,
        span=span,
        why=why,
        report=report,
        domain=domain,
        thresholds=now,
        limits=limits,
        question=question,
        kept={name: value for name, value in {"domain": domain, "threshold": threshold, "only": only}.items() if value},
        charts=_charts(view, report, now, domain) if report is not None and not why else [],
        **_what_if(view, what_if, question, now),
        **await _labelled(view, now, labels, domain),
    )


async def _labelled(view: View, now: Thresholds, picked: Picked, domain: str | None) -> dict[str, Any]:
    """Return what labels say; they are asked for apart, so that the page does without them."""
    prompts = view.plane.gateway.prompts
    if prompts is None:
        return {"labelled": None, "labels_why": "records_disabled", "reliability": None}
    found = await view.ask(lambda queries: labelled(prompts.labels.newest(MOST_LABELS), now, picked, domain))
    chart = None if found.value is None else reliability_chart(found.value.diagram)
    return {"labelled": found.value, "labels_why": found.why, "reliability": chart}


def _charts(view: View, report: ConfidenceReport, now: Thresholds, domain: str | None) -> list[Chart]:
    shown = [one.threshold for one in report.domains if domain in (None, one.domain)]
    marks = [Mark(threshold, f"{threshold:.3g}") for threshold in sorted({*shown} or {now.default_confidence})]
    return histograms(report, domain, marks, view.links)


def _what_if(view: View, found: Tried | None, question: Question, now: Thresholds) -> dict[str, Any]:
    """Return what the template needs of the slider; nothing was looked at: only that."""
    if found is None or not found.curve.hanging:
        return {"tried": found, "outcome": None, "slider": None, "curves": []}
    curve, currency = found.curve, view.plane.gateway.catalog.currency
    in_effect = now.default_confidence if question.only is None else now.of(question.only)
    threshold = round(STEPS * (in_effect if question.threshold is None else question.threshold)) / STEPS
    one_for_all = question.only is not None or not now.confidence
    marks = [Mark(in_effect, f"in effect {in_effect:.3g}")] if one_for_all else []
    return {
        "tried": found,
        "looked": _looked(found),
        "outcome": _outcome(curve, threshold, question.only),
        "slider": _slider(curve, currency, question.only, in_effect),
        "curves": curves(curve, question.only, marks, currency),
    }


def _looked(found: Tried) -> dict[str, int]:
    """Return the bounds of the requests looked at, for links to them."""
    return {"since_us": found.oldest_us or 0, "until_us": (found.newest_us or 0) + 1}


def _outcome(curve: Curve, threshold: float, only: str | None) -> Outcome:
    after, cost = curve.at(threshold if only is None else {only: threshold})
    names = [name for name in {**curve.before, **after} if name != curve.generalist]
    order = [curve.generalist, *sorted(names, key=lambda name: (-curve.before.get(name, 0), name))]
    return Outcome(threshold, [ExpertRow(name, curve.before.get(name, 0), after[name]) for name in order], cost)


def _slider(curve: Curve, currency: str, only: str | None, in_effect: float) -> dict[str, Any]:
    """Return what `what_if.js` computes from, without asking again; the domain asked for is always among its pieces."""
    experts, cost = curve.at()
    chosen = [one for place, one in enumerate(curve.domains) if place < MOST_CHOICES or one.domain == only]
    if only is not None and only not in {one.domain for one in chosen}:
        chosen.append(DomainCurve(only, in_effect, 0, {}, [0.0] * (STEPS + 1), {}, 0.0))
    return {
        "requests": curve.requests,
        "priced": curve.requests - curve.unpriced,
        "generalist": curve.generalist,
        "currency": currency,
        "before": curve.before,
        "costBefore": curve.cost_before,
        "now": dict(experts),
        "costNow": cost,
        "pieces": {one.domain: _piece(one) for one in (curve.whole(), *chosen)},
    }


def _piece(one: DomainCurve) -> dict[str, Any]:
    return {
        "threshold": one.threshold,
        "acted": one.acted,
        "cost": one.cost,
        "actedNow": one.acted_now,
        "costNow": one.cost_now,
    }
