"""Decisions: by which reason, of which domain to which expert, and how often the classifier abstains. No sum is its."""

from __future__ import annotations

from functools import partial

from fastapi import APIRouter
from starlette.responses import Response

from gateway.admin.decided import ABSTENTIONS, Decided, Family, decided, family_of
from gateway.dashboard.bins import Bins, bins
from gateway.dashboard.charts import Chart, Mark, Series
from gateway.dashboard.happenings import CONFIG, Happening, marks, told
from gateway.dashboard.links import Links
from gateway.dashboard.navigation import Nav
from gateway.dashboard.spans import ChosenSpan
from gateway.dashboard.texts import REASONS
from gateway.dashboard.view import ViewerPage
from gateway.stores.records.counts import events
from gateway.stores.records.filters import NOTHING
from gateway.stores.records.queries import Queries

NAV = Nav("Decisions", "decisions", "Understand", 10)
api = APIRouter()

FAMILIES: dict[Family, tuple[str, str]] = {
    Family.SCORED: ("By the scores", "The classifier's scores chose who answers; that can be the generalist."),
    Family.ABSTAINED: ("Abstained", "The classifier was not sure, or could not say: the generalist."),
    Family.CONVERSATION: ("By the conversation", "The conversation stayed with its expert."),
    Family.CONSTRAINED: ("Wanted expert not possible", "Another answered than the scores or the client wanted."),
    Family.GIVEN: ("Given", "The client named expert or domain, or the policy is a fixed one."),
    Family.UNDECIDED: ("Not decided", "Refused before anything was decided, such as a wrong key."),
}
UNDECIDED = "Refused before anything was decided."


@api.get("/decisions")
async def decisions(view: ViewerPage, span: ChosenSpan) -> Response:
    """Show the page."""
    parts = bins(span)
    found = await view.ask(partial(_stored, parts=parts))
    seen, happened = found.value or (None, [])
    return view.page(
        "decisions.html",
        NAV.path,
        span=parts.span,
        why=found.why or ("no_traffic" if seen is not None and not seen.total else None),
        seen=seen,
        families=[] if seen is None else [(*FAMILIES[one], seen.of(one)) for one in FAMILIES],
        reasons=[] if seen is None else _reasons(seen),
        chart=None if seen is None else _abstentions(seen, parts, view.links, marks(happened, {})),
        nothing=NOTHING,
    )


def _stored(queries: Queries, parts: Bins) -> tuple[Decided, list[Happening]]:
    changes = events(queries.run, CONFIG, parts.span.since_us, parts.span.until_us)
    return decided(queries.run, parts.wanted()), [told(event) for event in changes]


def _reasons(seen: Decided) -> list[tuple[str, str, str, int]]:
    """Return code, family, meaning and requests of each reason."""
    return [
        (reason, FAMILIES[family_of(reason)][0], REASONS.get(reason, "") if reason else UNDECIDED, count)
        for reason, count in seen.by_reason.items()
    ]


def _abstentions(seen: Decided, parts: Bins, links: Links, marked: list[Mark]) -> Chart:
    totals = parts.row({at: sum(counts.values()) for at, counts in seen.over_time.items()})
    shown = [reason for reason in seen.by_reason if reason in ABSTENTIONS][:6]
    sums = {reason: parts.row({at: counts.get(reason, 0) for at, counts in seen.over_time.items()}) for reason in shown}
    series = [
        Series(reason.replace("_", " "), _shares(values, totals), parts.links(links, reason=reason))
        for reason, values in sums.items()
    ]
    abstained = seen.of(Family.ABSTAINED)
    share = abstained / seen.total if seen.total else 0.0
    return Chart(
        "abstentions",
        "Share of requests on which the classifier abstained, by reason",
        parts.x,
        series,
        unit="share",
        marks=marked,
        summary=f"{100 * share:.1f} % of all requests in this span: {abstained} of {seen.total}.",
        empty="The classifier did not abstain in this span of time.",
    )


def _shares(values: list[float | None], totals: list[float | None]) -> list[float | None]:
    return [(value or 0.0) / total if total else None for value, total in zip(values, totals, strict=True)]
