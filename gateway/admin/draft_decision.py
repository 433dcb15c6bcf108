"""Decides for one request with a configuration that is not in use. Applies nothing, sends nothing, probes nobody."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from gateway.admin.config_changes import file_of
from gateway.admin.plane import Plane
from gateway.budgets import Budgets
from gateway.generation import Generation, Plan
from gateway.health import Fleet
from gateway.metrics import Metrics
from gateway.pipeline import Pipeline
from gateway.scoring import AsyncScorer
from gateway.sessions import SessionTable
from gateway.types import Catalog
from gateway.upstream import UpstreamClient
from gateway.variants import live_variant

DEADLINE_S = 5.0  # a classifier that is loaded for this alone starts cold


@asynccontextmanager
async def drafted(plane: Plane, generation: Generation, text: str) -> AsyncIterator[tuple[Pipeline, Catalog]]:
    """Give a pipeline of a draft and its experts; every one of them counts as up.

    Args:
        plane: whose configuration it may become.
        generation: in use; its classifier decides where the draft names the same one.
        text: the whole file.

    Raises:
        Conflict: the configuration comes from no file.
        ConfigInvalid: the draft cannot be used.
    """
    plan = await file_of(plane).plan(text)
    async with _scorer(generation, plan) as scorer:
        settings, catalog = plan.settings, plan.catalog
        live = live_variant(settings, catalog, scorer, plan.table, plane.gateway.pace)
        # Never entered, so it neither probes nor connects.
        fleet = Fleet(catalog, UpstreamClient(), Metrics(), settings.health, settings.timeouts)
        yield Pipeline(settings, catalog, fleet, live, budgets=Budgets(), sessions=SessionTable(1, 1)), catalog


@asynccontextmanager
async def _scorer(generation: Generation, plan: Plan) -> AsyncIterator[AsyncScorer]:
    """Give what scores for a draft. The classifier in use may be called by its own thread only, so it stays there."""
    if plan.scorer.scorer is generation.scorer.scorer:
        yield generation.scorer
        return
    async with AsyncScorer(plan.scorer.scorer, deadline_s=DEADLINE_S, batch_size=1, queue_size=1) as scorer:
        yield scorer
