"""Labels of requests, and the kept prompts they are given to. Prompts are for administrators only."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request
from pydantic import Field
from starlette.responses import Response

from gateway.admin.access import Admin, CurrentPlane, Viewer
from gateway.admin.answers import Strict, accepts, answer, read_json
from gateway.admin.errors import NotThere
from gateway.admin.labelling import (
    ask,
    delete_prompts,
    exported,
    keeping,
    label_request,
    prompt_of,
    undo_label,
    waiting_prompts,
)
from gateway.stores.prompts.contract import Label, Sample, Why
from gateway.stores.prompts.labels import LATEST_US

api = APIRouter(tags=["labels"])

PAGE_ROWS = 100
ID = r"^[A-Za-z0-9_.-]{1,128}$"
Moment = Annotated[int, Field(ge=0, le=LATEST_US)]


class GivenLabel(Strict):
    """What the domain of a request was."""

    at_us: Moment = Field(description="`at_us` of the request.")
    id: str = Field(pattern=ID, description="Its id.")
    label: str = Field(max_length=200, description="One of the classifier's domains.")


class LabelQuery(Strict):
    """Which labels are wanted."""

    since_us: Moment = Field(0, description="Of requests from this time on, microseconds since the epoch.")
    until_us: Moment = Field(LATEST_US, description="Of requests before this time.")
    limit: int = Field(1_000, ge=1, le=10_000, description="Most labels, those of the newest requests.")


class PromptQuery(Strict):
    """Which kept prompts are wanted."""

    why: Why | None = Field(None, description="Kept for this reason.")
    domain: str | None = Field(None, max_length=200, description="Predicted to be of this domain.")
    before_us: Moment = Field(LATEST_US, description="Of requests before this time.")
    limit: int = Field(20, ge=1, le=PAGE_ROWS, description="Most prompts, the newest.")


@api.get("/labels")
async def labels(principal: Viewer, plane: CurrentPlane, query: Annotated[LabelQuery, Query()]) -> Response:
    """Return labels, those of the newest requests first; no prompts."""
    found = await ask(plane, lambda kept: kept.labels.newest(query.limit, query.since_us, query.until_us))
    return answer({"labels": [shown(label) for label in found]})


@api.post("/labels", status_code=201, openapi_extra=accepts(GivenLabel))
async def give(principal: Admin, plane: CurrentPlane, request: Request) -> Response:
    """Say what the domain of a request was. An earlier label of the same request is replaced."""
    given = await read_json(request, plane, GivenLabel)
    return answer(shown(await label_request(plane, principal, given.at_us, given.id, given.label)), 201)


@api.post("/labels/undo")
async def undo(principal: Admin, plane: CurrentPlane) -> Response:
    """Take back the last label that you gave."""
    undone = await undo_label(plane, principal)
    return answer({"undone": None if undone is None else shown(undone)})


@api.get("/labels/agreement")
async def agreement(principal: Viewer, plane: CurrentPlane) -> Response:
    """Return how often labels agree with the classifier, by its domain; apart for requests that chance picked."""
    found = await ask(plane, lambda kept: kept.labels.agreement())
    return answer({"agreement": [asdict(one) for one in found]})


@api.get("/labels/export")
async def export(principal: Admin, plane: CurrentPlane) -> Response:
    """Return labelled prompts that are still kept, as JSONL that `pointsman train --data` reads."""
    return as_file(await exported(plane, principal))


@api.get("/prompts")
async def prompts(principal: Admin, plane: CurrentPlane, query: Annotated[PromptQuery, Query()]) -> Response:
    """Return kept prompts that nobody labelled, the newest first. The look is written down as an event."""
    found = await waiting_prompts(
        plane, principal, query.limit, before=(query.before_us, ""), why=query.why, domain=query.domain
    )
    counts = await ask(plane, lambda kept: kept.samples.counts())
    state = keeping(plane).state()
    return answer({"prompts": [described(one) for one in found], "counts": asdict(counts), "writer": asdict(state)})


@api.post("/prompts/delete")
async def clear(principal: Admin, plane: CurrentPlane) -> Response:
    """Delete all kept prompts. Labels stay, and can no longer be exported."""
    return answer({"deleted": await delete_prompts(plane, principal)})


@api.get("/prompts/{record_id}")
async def prompt(
    principal: Admin,
    plane: CurrentPlane,
    record_id: Annotated[str, Path(pattern=ID, description="The request's id.")],
    at_us: Annotated[int, Query(ge=0, le=LATEST_US, description="`at_us` of the request.")],
) -> Response:
    """Return one kept prompt. The look is written down as an event."""
    found = await prompt_of(plane, principal, at_us, record_id)
    if found is None:
        raise NotThere("This prompt is not kept.", code="prompt_not_found")
    return answer(described(found))


def shown(label: Label) -> dict[str, Any]:
    """Return a label as JSON has it."""
    return {**asdict(label), "agrees": label.agrees}


def described(sample: Sample) -> dict[str, Any]:
    """Return a kept prompt as JSON has it."""
    return asdict(sample)


def as_file(lines: bytes) -> Response:
    """Return JSONL as a file to be saved."""
    headers = {"content-disposition": 'attachment; filename="pointsman-labels.jsonl"'}
    return Response(lines, headers=headers, media_type="application/x-ndjson")
