"""Review queue: kept prompts, one after the other, for people to say what domain they are of. Applies no label."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any
from urllib.parse import parse_qsl, urlsplit

from fastapi import APIRouter, Query
from starlette.responses import Response

from gateway.admin.errors import NotThere, QueryTooSlowError, StoreDown
from gateway.admin.labelling import (
    ask,
    delete_prompts,
    exported,
    label_request,
    prompt_of,
    undo_label,
    waiting_prompts,
)
from gateway.admin.reliability import wilson
from gateway.admin.routes.labels import ID, as_file
from gateway.dashboard.login import read_form
from gateway.dashboard.navigation import Nav
from gateway.dashboard.view import AdminPage, View
from gateway.errors import InvalidRequest, PointsmanError
from gateway.keyring import Role
from gateway.prompt_keeping import KeepingState, PromptKeeping
from gateway.stores.prompts.contract import Agreement, Label, Sample, Why
from gateway.stores.prompts.labels import LATEST_US
from gateway.stores.prompts.samples import Counts

NAV = Nav("Review queue", "review", "Improve", 20, Role.ADMIN)
api = APIRouter()

KEYS = "1234567890qwertyiopadfghjklzxcvbnm"
"""Keys for the domains, in order; `u`, `s` and `?` do something else."""
LAST = 12
WHY = {
    Why.RANDOM: ("Random control", "It was picked by chance. Only these say how good the classifier is as a whole."),
    Why.LOW_MARGIN: ("Close call", "The two best domains were close to each other."),
    Why.OUT_OF_DOMAIN: ("Out of domain", "It is too unlike what the classifier was trained on."),
    Why.THUMBS_DOWN: ("Thumbs down", "A caller rated the answer below 0.5."),
}
Moment = Annotated[int | None, Query(ge=0, le=LATEST_US)]
RequestId = Annotated[str | None, Query(pattern=ID)]


@dataclass(frozen=True, slots=True)
class Place:
    """Where in the queue somebody is.

    Attributes:
        why: only prompts kept for this reason.
        domain: only those predicted to be of this domain.
        before_us, before_id: only older ones than this.
    """

    why: Why | None = None
    domain: str | None = None
    before_us: int | None = None
    before_id: str | None = None

    def query(self, **changes: object) -> dict[str, object]:
        """Return it as fields of an address."""
        now = {"why": self.why, "domain": self.domain, "before_us": self.before_us, "before_id": self.before_id}
        return {name: value for name, value in {**now, **changes}.items() if value is not None}

    def filters(self) -> dict[str, Any]:
        """Return it as `Samples.waiting` takes it."""
        before = {} if self.before_us is None else {"before": (self.before_us, self.before_id or "")}
        return {"why": self.why, "domain": self.domain, **before}


@dataclass(frozen=True, slots=True)
class Rate:
    """How often the classifier was right among some labelled requests.

    Attributes:
        name: of the predicted domain, or of all.
        count: labelled requests.
        agreed: predicted right.
        low, high: 95 % interval of the share.
    """

    name: str
    count: int
    agreed: int
    low: float
    high: float

    @property
    def share(self) -> float | None:
        """Return the share predicted right; None of nothing."""
        return self.agreed / self.count if self.count else None


@dataclass(frozen=True, slots=True)
class Known:
    """What the stores say of the queue as a whole."""

    counts: Counts
    agreement: list[Agreement]
    last: list[Label]
    state: KeepingState


@api.get("/review")
async def page(
    view: AdminPage,
    why: Why | None = None,
    domain: Annotated[str | None, Query(max_length=200)] = None,
    before_us: Moment = None,
    before_id: RequestId = None,
    at_us: Moment = None,
    id: RequestId = None,
    done: Annotated[str, Query(max_length=20)] = "",
) -> Response:
    """Show the next prompt, or the one that is asked for."""
    chosen = None if at_us is None or id is None else (at_us, id)
    return await _page(view, Place(why, domain, before_us, before_id), chosen, done=done)


@api.post("/review/label")
async def give(view: AdminPage) -> Response:
    """Store a label, then go on where the form came from."""
    fields = await read_form(view.request, view.plane)
    try:
        at_us, id = _request_of(fields)
        await label_request(view.plane, view.principal, at_us, id, fields.get("label", ""))
    except PointsmanError as error:
        return await _page(view, _place(fields), None, error=error)
    if fields.get("next"):
        target = urlsplit(fields["next"])
        return view.see_other(target.path.lstrip("/"), **dict(parse_qsl(target.query)))
    return view.see_other("review", **_place(fields).query(done="labelled"))


@api.post("/review/undo")
async def undo(view: AdminPage) -> Response:
    """Take back one's last label and show its prompt again."""
    fields = await read_form(view.request, view.plane)
    try:
        undone = await undo_label(view.plane, view.principal)
    except PointsmanError as error:
        return await _page(view, _place(fields), None, error=error)
    if undone is None:
        return view.see_other("review", **_place(fields).query(done="nothing"))
    return view.see_other("review", **_place(fields).query(at_us=undone.at_us, id=undone.id, done="undone"))


@api.get("/review/export")
async def export(view: AdminPage) -> Response:
    """Return the labelled prompts as a file for `pointsman train`."""
    return as_file(await exported(view.plane, view.principal))


@api.post("/review/delete")
async def clear(view: AdminPage) -> Response:
    """Delete all kept prompts."""
    fields = await read_form(view.request, view.plane)
    try:
        if fields.get("sure") != "yes":
            raise InvalidRequest("Tick the box to say that you are sure.", param="sure")
        await delete_prompts(view.plane, view.principal)
    except PointsmanError as error:
        return await _page(view, Place(), None, error=error)
    return view.see_other("review", done="deleted")


async def _page(
    view: View,
    place: Place,
    chosen: tuple[int, str] | None,
    *,
    done: str = "",
    error: PointsmanError | None = None,
) -> Response:
    known, problem, sample, label = None, "", None, None
    try:
        known = await ask(view.plane, _known)
        sample, label = await _shown(view, place, chosen)
    except (NotThere, StoreDown, QueryTooSlowError) as failure:
        problem = failure.code
    labels = view.plane.gateway.current.scorer.labels
    return view.page(
        "review.html",
        NAV.path,
        status=200 if error is None else error.status,
        place=place,
        known=known,
        problem=problem,
        sample=sample,
        label=label,
        missing=chosen is not None and sample is None,
        done=done,
        error=error,
        whys=WHY,
        domains=[(name, KEYS[row] if row < len(KEYS) else "") for row, name in enumerate(labels)],
        all_rates=[] if known is None else _overall(known.agreement),
        rates=[] if known is None else _by_domain(known.agreement),
        prompts=view.plane.gateway.settings.records.prompts,
        rated=view.plane.gateway.feedback is not None,
    )


async def _shown(view: View, place: Place, chosen: tuple[int, str] | None) -> tuple[Sample | None, Label | None]:
    if chosen is not None:
        label = await ask(view.plane, lambda kept: kept.labels.find(*chosen))
        return await prompt_of(view.plane, view.principal, *chosen), label
    found = await waiting_prompts(view.plane, view.principal, 1, **place.filters())
    return (found[0] if found else None), None


def _known(kept: PromptKeeping) -> Known:
    return Known(kept.samples.counts(), kept.labels.agreement(), kept.labels.last(LAST), kept.state())


def _overall(agreement: list[Agreement]) -> list[Rate]:
    """Return the rates of what chance picked, and of the rest."""
    return [
        _rate(name, [one for one in agreement if one.random is random])
        for name, random in (("Random control", True), ("All others", False))
    ]


def _by_domain(agreement: list[Agreement]) -> list[tuple[Rate, Rate]]:
    """Return for each predicted domain the rates of what chance picked and of the rest."""
    names = sorted({one.domain for one in agreement})
    return [
        (
            _rate(name, [one for one in agreement if one.domain == name and one.random]),
            _rate(name, [one for one in agreement if one.domain == name and not one.random]),
        )
        for name in names
    ]


def _rate(name: str, found: list[Agreement]) -> Rate:
    count, agreed = sum(one.count for one in found), sum(one.agreed for one in found)
    return Rate(name, count, agreed, *wilson(agreed, count))


def _place(fields: dict[str, str]) -> Place:
    """Return where a form came from; what cannot be read is the queue's start."""
    why = next((one for one in Why if one.value == fields.get("why")), None)
    before = fields.get("before_us", "")
    before_us = int(before) if before.isascii() and before.isdigit() and len(before) < 19 else None
    return Place(why, fields.get("domain") or None, before_us, fields.get("before_id") or None)


def _request_of(fields: dict[str, str]) -> tuple[int, str]:
    at = fields.get("at_us", "")
    if not (at.isascii() and at.isdigit() and len(at) < 19):
        raise InvalidRequest("`at_us` must be a number.", param="at_us")
    return int(at), fields.get("id", "")[:128]
