"""What decides: classifier, thresholds, quality, keys' limits; and tries decisions out. Sends nothing upstream."""

from __future__ import annotations

import time
from typing import Annotated, Any

from fastapi import APIRouter, Request
from pydantic import Field
from starlette.responses import Response

from gateway.admin.access import Admin, CurrentPlane, Viewer
from gateway.admin.answers import Strict, accepts, answer, encoded, read_body, read_json
from gateway.admin.confidence_report import compared
from gateway.admin.errors import NotThere, explained, of_message
from gateway.context import RequestContext
from gateway.controls import read_controls
from gateway.errors import InvalidRequest
from gateway.explain import explain
from gateway.generation import Generation
from gateway.openai import parse
from gateway.settings import Settings
from gateway.stores.records.columns import MOST_ROWS
from gateway.types import Endpoint
from gateway.variants import load_table
from router import QualityTable, RouterError, Thresholds, artifact_card

api = APIRouter(tags=["routing"])

# Of the card: what a person asks of a classifier. File digests and calibration are for loading.
_CARD_LEAVES_OUT = ("files", "calibration")

Row = dict[str, Any]
Share = Annotated[float, Field(ge=0, le=1)]


class WhatIf(Strict):
    """Thresholds to try on stored requests; what is left out is as it is now."""

    thresholds: dict[str, Share] = Field({}, max_length=1_000, description="Smallest probability by domain.")
    minimum_confidence: Share | None = Field(None, description="The same for all other domains.")
    minimum_margin: Share | None = None
    maximum_out_of_domain: Share | None = None
    maximum_disagreement: Share | None = None
    last: int = Field(5_000, ge=1, le=MOST_ROWS, description="How many of the latest requests.")


@api.get("/router")
async def router(principal: Viewer, plane: CurrentPlane) -> Response:
    """Return the classifier with its artifact's card, the thresholds in effect, and the canary."""
    generation = plane.gateway.current
    settings, scorer = generation.settings, generation.scorer.scorer
    found = {
        "artifact": settings.router.artifact,
        "scorer": scorer.version,
        "labels": scorer.labels,
        "thresholds": generation.pipeline.thresholds.as_dict(),
        "policy": settings.policy.model_dump(mode="json"),
        "shadow": None if settings.shadow is None else settings.shadow.model_dump(mode="json"),
        "canary": None if settings.canary is None else settings.canary.model_dump(mode="json"),
    }
    return answer(await plane.threads.query(lambda: encoded({**found, **_cards(settings)})))


@api.get("/quality")
async def quality(principal: Viewer, plane: CurrentPlane) -> Response:
    """Return the quality table as its file says, by domain and expert: score, count, mean, 95 % interval."""
    generation = plane.gateway.current
    path = generation.settings.policy.quality_table

    def read() -> bytes:
        try:
            table = load_table(path, generation.catalog, generation.scorer.scorer)
        except RouterError as error:
            raise of_message(str(error)) from error
        if table is None:
            raise NotThere("No quality table is configured: set policy.quality_table.", code="quality_disabled")
        return encoded(_quality(table))

    return answer(await plane.threads.query(read))


@api.get("/limits")
async def limits(principal: Viewer, plane: CurrentPlane) -> Response:
    """Return what the keys of the configuration may do and what is left of their budgets in this worker; names only."""
    budgets, generation = plane.gateway.budgets, plane.gateway.current
    keys = [
        {
            "name": grant.name,
            "experts": None if grant.experts is None else sorted(grant.experts),
            "policies": None if grant.policies is None else sorted(grant.policies),
            "endpoints": None if grant.endpoints is None else sorted(grant.endpoints),
            "policy": grant.policy,
            "tags": grant.tags,
            "price_cap": grant.price_cap,
            "daily_budget": grant.daily_budget,
            "daily_budget_left": budgets.left(grant),
            "monthly_budget": grant.monthly_budget,
            "requests_per_minute": grant.rpm,
            "tokens_per_minute": grant.tpm,
            "concurrent_requests": grant.concurrent,
            "expires_at": grant.expires_at,
        }
        for grant in generation.grants.values()
    ]
    return answer({"keys": keys, "currency": generation.settings.currency, "budget_resets_in_s": budgets.resets_in_s()})


@api.post("/route")
async def route(principal: Admin, plane: CurrentPlane, request: Request) -> Response:
    """Decide for a chat request as the data plane would for a key that may do all, and say why.

    Only administrators: who can ask this at will learns how to steer the routing.
    """
    generation = plane.gateway.current
    with generation.running.hold():
        return answer(await _decide(request, generation, await _body(request, plane)))


@api.post("/whatif", openapi_extra=accepts(WhatIf))
async def what_if(principal: Viewer, plane: CurrentPlane, request: Request) -> Response:
    """Return how the latest requests would have been spread, and what they would have cost, with other thresholds."""
    wanted = await read_json(request, plane, WhatIf)
    generation, queries = plane.gateway.current, plane.queries
    unknown = next((domain for domain in wanted.thresholds if domain not in generation.scorer.labels), None)
    if unknown is not None:
        raise InvalidRequest("The classifier has no such domain.", param="thresholds")
    thresholds = _tried(generation.pipeline.thresholds, wanted)

    def ask() -> bytes:
        with explained():
            found = compared(queries, thresholds, generation.catalog, wanted.last)
        return encoded({**found, "thresholds": thresholds.as_dict(), "currency": generation.settings.currency})

    return answer(await plane.threads.query(ask))


def _cards(settings: Settings) -> Row:
    canary = settings.canary.artifact if settings.canary is not None else None
    return {"card": _card(settings.router.artifact), "canary_card": None if canary is None else _card(canary)}


def _card(artifact: str) -> Row | None:
    try:
        card = artifact_card(artifact)
    except RouterError:  # a scorer that was given to the gateway has none
        return None
    return {name: value for name, value in card.items() if name not in _CARD_LEAVES_OUT}


def _quality(table: QualityTable) -> Row:
    low, high = table.interval()
    columns = {"score": table.score, "count": table.count, "mean": table.mean, "lower": table.lower}
    cells = [
        {
            "domain": domain,
            "expert": expert,
            **{name: float(values[row, column]) for name, values in columns.items()},
            "low": float(low[row, column]),
            "high": float(high[row, column]),
        }
        for row, domain in enumerate(table.labels)
        for column, expert in enumerate(table.experts)
    ]
    return {
        "domains": table.labels,
        "experts": table.experts,
        "generalist": table.generalist,
        "prior": table.prior,
        "confidence": table.confidence,
        "has_cells": table.cells is not None,
        "table": cells,
    }


async def _body(request: Request, plane: CurrentPlane) -> bytes:
    return await read_body(request, plane, plane.gateway.settings.limits.body_bytes)


async def _decide(request: Request, generation: Generation, raw: bytes) -> Row:
    settings, scope = generation.settings, request.scope
    context = RequestContext(scope["request_id"], Endpoint.CHAT, generation.catalog)
    context.received = time.perf_counter()
    asked = parse(Endpoint.CHAT, raw, settings.limits, settings.pass_through)
    await generation.pipeline.decide(asked, context, read_controls(dict(scope["headers"])))
    return explain(context, generation.pipeline.alternatives(context))


def _tried(now: Thresholds, wanted: WhatIf) -> Thresholds:
    everywhere = wanted.minimum_confidence
    return Thresholds(
        confidence={**({} if everywhere is not None else now.confidence), **wanted.thresholds},
        default_confidence=_first(everywhere, now.default_confidence),
        margin=_first(wanted.minimum_margin, now.margin),
        out_of_domain=_first(wanted.maximum_out_of_domain, now.out_of_domain),
        disagreement=_first(wanted.maximum_disagreement, now.disagreement),
    )


def _first(tried: float | None, now: float) -> float:
    return now if tried is None else tried
