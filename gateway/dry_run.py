"""Decides for one prompt without a server: what `pointsman route` prints. Assumes that every expert is up."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson

from gateway import catalog as catalogs
from gateway.context import RequestContext
from gateway.explain import explain
from gateway.health import Fleet
from gateway.metrics import Metrics
from gateway.openai import ApiRequest
from gateway.pipeline import AUTO, Pipeline
from gateway.scoring import AsyncScorer
from gateway.settings import Settings
from gateway.types import Endpoint
from gateway.upstream import UpstreamClient
from router import load_scorer

OFFLINE_DEADLINE_S = 60.0  # nobody waits in line here, and a cold start should not look like a timeout


def decide_offline(settings: Settings, prompt: str) -> dict[str, Any]:
    """Return the explained decision for one prompt.

    Raises:
        router.ArtifactError: the configured artifact cannot be used.
        gateway.settings.MissingSecret: an environment variable that the settings name is not set.
    """
    return asyncio.run(_decide(settings, prompt))


async def _decide(settings: Settings, prompt: str) -> dict[str, Any]:
    catalog = catalogs.build(settings)
    # Never entered, so it neither probes nor connects: every expert counts as up.
    fleet = Fleet(catalog, UpstreamClient(), Metrics(), settings.health, settings.timeouts)
    scorer = load_scorer(settings.router.artifact, threads=settings.router.threads)
    body = {"model": AUTO, "messages": [{"role": "user", "content": prompt}]}
    request = ApiRequest(Endpoint.CHAT, body, AUTO, stream=False, include_usage=False)
    context = RequestContext("dry-run", Endpoint.CHAT, catalog)
    async with AsyncScorer(scorer, deadline_s=OFFLINE_DEADLINE_S, batch_size=1, queue_size=1) as async_scorer:
        pipeline = Pipeline(settings, catalog, fleet, async_scorer)
        await pipeline.decide(request, context, None)
    return explain(context)


def describe(explained: dict[str, Any], *, as_json: bool) -> str:
    """Write an explained decision for a person, or as JSON."""
    if as_json:
        return orjson.dumps(explained, option=orjson.OPT_INDENT_2).decode()
    lines = [
        f"{explained['expert']}  ({explained['model']})",
        f"reason      {explained['reason']}, policy {explained['policy']}",
        f"tokens      about {explained['features']['token_estimate']}",
    ]
    if explained["fallbacks"]:
        lines.append(f"fallbacks   {', '.join(explained['fallbacks'])}")
    scores = explained["scores"] or {}
    for domain, probability in sorted(scores.items(), key=lambda item: -item[1]):
        lines.append(f"  {domain:<12} {probability:6.3f}  {'#' * round(probability * 40)}")
    return "\n".join(lines)
