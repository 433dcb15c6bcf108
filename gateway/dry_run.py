"""Decides for one prompt without a server: what `pointsman route` prints. Assumes that every expert is up."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import orjson

import router
from gateway import catalog as catalogs
from gateway.budgets import Budgets
from gateway.context import RequestContext
from gateway.controls import Controls
from gateway.explain import explain
from gateway.health import Fleet
from gateway.metrics import Metrics
from gateway.openai import ApiRequest
from gateway.pace import Pace
from gateway.pipeline import Pipeline
from gateway.scoring import AsyncScorer
from gateway.sessions import SessionTable
from gateway.settings import Settings
from gateway.types import Decision, Endpoint
from gateway.upstream import UpstreamClient
from gateway.variants import live_variant, load_table
from gateway.wanted import AUTO
from router import Scorer

OFFLINE_DEADLINE_S = 60.0  # nobody waits in line here, and a cold start should not look like a timeout


def decide_offline(
    settings: Settings, prompt: str, *, words: bool = False, policy: str | None = None, scorer: Scorer | None = None
) -> dict[str, Any]:
    """Return the explained decision for one prompt.

    Args:
        settings: a checked configuration.
        prompt: what a user would send.
        words: add `words`, the prompt's most influential words, and `topics`, the training topics nearest to it. No
            endpoint does: they repeat the prompt, and they would tell how to steer the routing.
        policy: decides instead of the configured one.
        scorer: used instead of the configured artifact.

    Raises:
        gateway.errors.InvalidRequest: there is no such policy, or the price cap lets nobody answer.
        router.QualityError: the quality table cannot be used.
        router.ArtifactError: the configured artifact cannot be used.
        router.ScorerError: the scorer failed while words were tried.
        gateway.settings.MissingSecret: an environment variable that the settings name is not set.
        gateway.thresholds.UnknownDomain: a threshold is set for a domain that the classifier does not have.
    """
    if scorer is None:
        scorer = router.load_scorer(settings.router.artifact, threads=settings.router.threads)
    context, alternatives = asyncio.run(_decide(settings, prompt, policy, scorer))
    explained = explain(context, alternatives)
    if words and context.scores is not None:
        why = router.explain(scorer, prompt).as_dict()
        explained |= {"words": why["words"], "topics": why["topics"]}
    return explained


async def _decide(
    settings: Settings, prompt: str, policy: str | None, scorer: Scorer
) -> tuple[RequestContext, dict[str, Decision]]:
    catalog = catalogs.build(settings)
    # Never entered, so it neither probes nor connects: every expert counts as up.
    fleet = Fleet(catalog, UpstreamClient(), Metrics(), settings.health, settings.timeouts)
    body = {"model": AUTO, "messages": [{"role": "user", "content": prompt}]}
    request = ApiRequest(Endpoint.CHAT, body, AUTO, stream=False, include_usage=False)
    context = RequestContext("dry-run", Endpoint.CHAT, catalog)
    table = load_table(settings.policy.quality_table, catalog, scorer)
    async with AsyncScorer(scorer, deadline_s=OFFLINE_DEADLINE_S, batch_size=1, queue_size=1) as async_scorer:
        live = live_variant(settings, catalog, async_scorer, table, Pace())
        pipeline = Pipeline(settings, catalog, fleet, live, budgets=Budgets(), sessions=SessionTable(1, 1))
        await pipeline.decide(request, context, Controls(policy=policy))
    return context, pipeline.alternatives(context)


def describe(explained: dict[str, Any], *, as_json: bool) -> str:
    """Write an explained decision for a person, or as JSON."""
    if as_json:
        return orjson.dumps(explained, option=orjson.OPT_INDENT_2).decode()
    lines = [
        f"{explained['expert']}  ({explained['model']})",
        f"reason        {explained['reason']}, policy {explained['policy']}",
        f"tokens        about {explained['features']['token_estimate']}",
    ]
    if explained["fallbacks"]:
        lines.append(f"fallbacks     {', '.join(explained['fallbacks'])}")
    if explained["scores"] is not None:
        lines += _scored(explained)
    lines += _compared(explained)
    return "\n".join(lines)


def _scored(explained: dict[str, Any]) -> Iterator[str]:
    yield f"threshold     {explained['threshold']:.2f} for {explained['domain']}, tier {explained['tier'] or '-'}"
    for figure, limit in explained["limits"].items():
        yield f"{figure.replace('_', ' '):<13} {explained[figure]:.3f}, limit {limit:.3f}"
    for domain, probability in sorted(explained["scores"].items(), key=lambda item: -item[1]):
        yield f"  {domain:<12} {probability:6.3f}  {'#' * round(probability * 40)}"
    if explained.get("words"):
        yield f"words for (+) and against (-) {explained['domain']}, in log-odds"
        yield from (f"  {word['influence']:+6.2f}  {word['word']}" for word in explained["words"])
    if explained.get("topics"):
        yield "nearest training topics, by cosine"
        yield from (
            f"  {topic['similarity']:6.2f}  {topic['name']} ({topic['domain']})" for topic in explained["topics"]
        )


def _compared(explained: dict[str, Any]) -> Iterator[str]:
    """Yield what every expert may do and is expected to, and what other policies would have decided."""
    yield f"experts       {'quality':>7} {'cost':>10}  (expected; a thousand such requests)"
    for name, expert in explained["experts"].items():
        quality, cost = expert["expected_quality"], expert["expected_cost"]
        shown = ("-" if quality is None else f"{quality:.3f}", "-" if cost is None else f"{cost * 1000:.4f}")
        why = "" if expert["eligible"] else f"  not eligible: {expert['excluded']}"
        yield f"  {name:<12} {shown[0]:>7} {shown[1]:>10}{why}"
    yield "other policies"
    for name, decision in explained["policies"].items():
        if name != explained["policy"]:
            yield f"  {name:<12} {decision['expert']} ({decision['reason']})"
