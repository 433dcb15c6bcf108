"""Whether traffic is like that of a reference week. Compares nothing: `admin.drift_report` does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BeforeValidator
from starlette.responses import Response

from gateway.admin.drift_report import Day, Drift, Length, drift
from gateway.admin.drift_windows import DAYS, Name, Window, days_until, windows
from gateway.admin.stability import LARGE, LEAST, SOME, Part, Shift, Verdict
from gateway.dashboard.charts import Chart, Series, gaps_filled
from gateway.dashboard.links import Links
from gateway.dashboard.navigation import Nav
from gateway.dashboard.spans import Span
from gateway.dashboard.view import ViewerPage
from gateway.errors import InvalidRequest
from gateway.stores.records.rollups import DAY_S

NAV = Nav("Drift", "drift", "Understand", 50)
api = APIRouter()

WINDOWS: dict[Name, str] = {"hour": "Last hour", "day": "Last 24 hours", "week": "Last 7 days"}
TITLES = {
    "domains": "Mix of domains",
    "experts": "Who answers",
    "reasons": "Reasons of decisions",
    "confidence": "Confidence",
    "margin": "Margin",
    "out_of_domain": "Out-of-domain share",
    "length": "Length of prompts",
}
ABOUT = {
    "domains": "Scored requests by their best domain.",
    "experts": "Answered requests by the expert that answered.",
    "reasons": "Requests by why their expert was chosen.",
    "confidence": "Probability of the best domain, in bins that held about a tenth of the reference each.",
    "margin": "Lead of the best domain over the second, in bins that held about a tenth of the reference each.",
    "out_of_domain": "Scored requests that were left to the generalist as unlike anything the classifier knows.",
    "length": "Mean input tokens of an answered request.",
}
SAYS = {
    Verdict.LARGE: ("bad", "large shift"),
    Verdict.SOME: ("warn", "some shift"),
    Verdict.STABLE: ("good", "stable"),
    Verdict.TOO_FEW: ("off", "too few requests"),
}
_FIELDS = {"domains": "domain", "experts": "chosen", "reasons": "reason"}


def _given(value: object) -> object:
    return None if value == "" else value


FirstDay = Annotated[date | None, BeforeValidator(_given)]


@dataclass(frozen=True, slots=True)
class Row:
    """One part of a measure.

    Attributes:
        part: the figures.
        name: what people read.
        link: to the requests of now behind it; "" when there is none.
        link_before: to those of the reference.
    """

    part: Part
    name: str
    link: str
    link_before: str


@dataclass(frozen=True, slots=True)
class Measure:
    """One measure as the page shows it.

    Attributes:
        key: of `TITLES`.
        level, word: what `ui.state` takes.
        shift: the figures; None for the length of prompts.
        length: those of the length; None for the others.
        rows: the parts.
        movers: those that changed most.
    """

    key: str
    level: str
    word: str
    shift: Shift | None
    length: Length | None
    rows: tuple[Row, ...] = ()
    movers: tuple[Row, ...] = ()

    @property
    def is_noise(self) -> bool:
        """Tell whether the index would be a shift, if chance did not give as much."""
        return self.shift is not None and SOME <= self.shift.index <= self.shift.chance


@api.get("/drift")
async def page(
    view: ViewerPage,
    window: Annotated[Name, Query()] = "day",
    reference: Annotated[FirstDay, Query()] = None,
) -> Response:
    """Show what changed, the most changed first, and the last days one by one."""
    now_s = int(datetime.now(UTC).timestamp())
    if reference is not None and reference > datetime.fromtimestamp(now_s, UTC).date():
        raise InvalidRequest("The reference week has not begun.", param="reference")
    first_s = None if reference is None else max(0, (reference - date(1970, 1, 1)).days * DAY_S)
    now, before = windows(window, now_s, first_s)
    found = await view.ask(lambda queries: drift(queries, now, before))
    report = found.value
    return view.page(
        "drift.html",
        NAV.path,
        window=window,
        windows=WINDOWS,
        reference=reference,
        today=datetime.fromtimestamp(now_s, UTC).date(),
        now=now,
        before=before,
        now_link=_requests(view.links, now),
        before_link=_requests(view.links, before),
        overlap=now.overlaps(before),
        why=found.why or _why(report),
        report=report,
        measures=[] if report is None else _measures(report, view.links),
        charts=[] if report is None else _charts(report, view.links),
        out_of_domain_off=view.plane.gateway.current.pipeline.thresholds.out_of_domain >= 1,
        titles=TITLES,
        about=ABOUT,
        some=SOME,
        large=LARGE,
        least=LEAST,
        days=DAYS,
    )


def _why(report: Drift | None) -> str | None:
    """Return why nothing can be compared; None: it can."""
    if report is None or (report.requests_now and report.requests_before):
        return None
    if report.requests_before:
        return "No request in the time that is looked at. Take a longer one."
    if report.requests_now:
        return "No request in the reference week. Take another, or wait until there is one."
    return "no_traffic"


def _requests(links: Links, window: Window, **filters: object) -> str:
    """Return the address of a window's requests; those of several spans have none that is right."""
    one = window.spans[0]
    return links.requests(Span("", one.since_s, one.until_s), **filters) if len(window.spans) == 1 else ""


def _measures(report: Drift, links: Links) -> list[Measure]:
    level, word = SAYS[report.length.verdict]
    length = Measure("length", level, word, None, report.length)
    found = [_measure(key, shift, report, links) for key, shift in report.shifts.items()]
    graver = sum(shift.verdict.rank >= report.length.verdict.rank for shift in report.shifts.values())
    return [*found[:graver], length, *found[graver:]]


def _measure(key: str, shift: Shift, report: Drift, links: Links) -> Measure:
    rows = {part.name: _row(key, part, report, links) for part in shift.parts}
    movers = tuple(rows[part.name] for part in shift.movers() if key != "out_of_domain" or part.name == "out")
    return Measure(key, *SAYS[shift.verdict], shift, None, tuple(rows.values()), movers)


def _row(key: str, part: Part, report: Drift, links: Links) -> Row:
    name, filters = part.name, _filters(key, part.name)
    if key == "out_of_domain":
        name = "out of domain" if part.name == "out" else "all others"
    if key == "reasons":
        name = part.name.replace("_", " ")
    if filters is None:
        return Row(part, name, "", "")
    return Row(part, name, _requests(links, report.now, **filters), _requests(links, report.reference, **filters))


def _filters(key: str, name: str) -> dict[str, object] | None:
    """Return what the page of requests is asked for a part; None: it cannot be."""
    if key in _FIELDS:
        return {_FIELDS[key]: name}
    if key == "out_of_domain":
        return {"reason": "out_of_domain"} if name == "out" else None
    low, high = name.split(" to ")
    # What is 1 exactly is in the last bin.
    return {f"{key}_from": low, f"{key}_below": "1.01" if float(high) >= 1 else high}


def _charts(report: Drift, links: Links) -> list[Chart]:
    since_s = days_until(report.now.until_s).since_s

    def series(name: str, value: Callable[[Day], float | None], **filters: object) -> Series:
        x, values = gaps_filled(
            since_s,
            report.now.until_s,
            DAY_S,
            {day.at_s: found for day in report.days if (found := value(day)) is not None},
            missing=None,
        )
        targets = [links.requests(Span("", int(at), int(at) + DAY_S), **filters) for at in x]
        return Series(name, values, targets)

    x, _ = gaps_filled(since_s, report.now.until_s, DAY_S, {})
    bands = [
        Series(f"{name} from {limit:g}", [limit] * len(x))
        for name, limit in (("some shift", SOME), ("large shift", LARGE))
    ]
    return [
        Chart(
            "drift-days",
            "Each day against the reference: stability index",
            x,
            [
                series("domains", lambda day: day.domains),
                series("confidence", lambda day: day.confidence),
                series("margin", lambda day: day.margin),
                *bands,
            ],
            unit="plain",
            x_title="Day (UTC)",
            summary=f"Days with fewer than {LEAST} scored requests are left out; today is not over.",
            empty=f"No day with at least {LEAST} scored requests, or no reference with as many.",
        ),
        Chart(
            "abstained-days",
            "Left to the generalist by a threshold, by day",
            x,
            [
                series("all thresholds", lambda day: day.abstained),
                series("out of domain", lambda day: day.out_of_domain, reason="out_of_domain"),
            ],
            unit="share",
            x_title="Day (UTC)",
            summary="Of scored requests.",
        ),
        Chart(
            "length-days",
            "Input tokens per answered request, by day",
            x,
            [series("mean input tokens", lambda day: day.length, status_class=2)],
            unit="tokens",
            x_title="Day (UTC)",
        ),
        Chart(
            "requests-days",
            "Requests by day",
            x,
            [series("requests", lambda day: float(day.requests))],
            x_title="Day (UTC)",
            summary="How much the other charts rest on.",
        ),
    ]
