"""Makes up a week of requests for the demo: decided by the configured classifier and policy, the rest by chance.

Writes only to the demo's own store, never to one that a configuration names. What it makes looks like traffic and is
none: times, lengths and failures are drawn, answers never existed.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import numpy as np

import router
from gateway import catalog as catalogs
from gateway.answers import Usage
from gateway.budgets import Budgets
from gateway.context import Attempt, RequestContext, RouteRecord
from gateway.controls import Controls
from gateway.errors import ClientLeft, UpstreamError, UpstreamReset, UpstreamUnreachable
from gateway.finishing import record_of
from gateway.health import Fleet
from gateway.metrics import Metrics
from gateway.openai import ApiRequest
from gateway.pace import Pace
from gateway.pipeline import Pipeline
from gateway.scoring import AsyncScorer
from gateway.sessions import SessionTable
from gateway.settings import Settings
from gateway.stores.records import Batch
from gateway.stores.records.choosing import open_store
from gateway.stores.records.tables import row_of
from gateway.types import Endpoint, Expert, Reason
from gateway.upstream import UpstreamClient
from gateway.variants import live_variant, load_table
from gateway.wanted import AUTO
from router import DomainScores, Scorer

DAYS = 7
PER_DAY = 1_500
BATCH_ROWS = 1_000
# Two days ago more callers began to ask what the classifier is unsure of: something for the page Drift to find.
SHIFT_DAYS = 2.0
SHIFTED = 3.0
# Four days ago one expert was gone for three quarters of an hour.
OUTAGE_DAYS = 4.0
OUTAGE_S = 45 * 60
_LOST, _LEFT, _STREAMS = 0.004, 0.006, 0.4
_NOISE = 0.2


@dataclass(frozen=True, slots=True)
class Past:
    """Made-up requests of some days.

    Args:
        until: when they end.
        days: how many days before they begin.
        per_day: how many there are in a day, on average.
        seed: of everything that is left to chance.
    """

    until: datetime
    days: int = DAYS
    per_day: int = PER_DAY
    seed: int = 7

    def moments(self) -> list[datetime]:
        """Return when they came: more by day than by night, the earliest first."""
        chance = random.Random(self.seed)
        since = self.until - timedelta(days=self.days)
        drawn = (since + timedelta(days=chance.uniform(0, self.days)) for _ in range(2 * self.days * self.per_day))
        return sorted(moment for moment in drawn if chance.random() < _busy(moment))


def write_history(settings: Settings, prompts: Mapping[str, float], past: Past, scorer: Scorer | None = None) -> int:
    """Fill the store of records that the settings name. Returns how many requests it now has more.

    Args:
        settings: the demo's; nobody uses the store yet.
        prompts: what was asked, and how often for each of the others.
        past: when, and how much.
        scorer: instead of the configured artifact.

    Raises:
        router.RouterError, gateway.thresholds.UnknownDomain: see `dry_run.decide_offline`.
        gateway.stores.sqlite.StoreError: the store cannot be used.
    """
    scorer = scorer or router.load_scorer(settings.router.artifact, threads=settings.router.threads)
    rows = [row_of(record, attempts) for record, attempts in made_up(settings, prompts, past, scorer)]
    store = open_store(settings.records)
    try:
        for start in range(0, len(rows), BATCH_ROWS):
            store.write(Batch(rows[start : start + BATCH_ROWS]))
    finally:
        store.close()
    return len(rows)


def made_up(
    settings: Settings, prompts: Mapping[str, float], past: Past, scorer: Scorer
) -> Iterator[tuple[RouteRecord, Sequence[Attempt]]]:
    """Yield made-up requests with their tries, the earliest first."""
    chance = random.Random(past.seed + 1)
    decided = asyncio.run(_decided(settings, list(prompts), scorer))
    late = past.until - timedelta(days=SHIFT_DAYS)
    before = list(prompts.values())
    after = [often * (SHIFTED if _is_unsure(context) else 1) for often, context in zip(before, decided, strict=True)]
    for number, moment in enumerate(past.moments()):
        template = chance.choices(decided, before if moment < late else after)[0]
        context = _happened(template, f"made-up-{past.seed}-{number}", moment, chance)
        _answered(context, chance, outage=_during_outage(moment, past))
        yield record_of(context), context.attempts


async def _decided(settings: Settings, prompts: Sequence[str], scorer: Scorer) -> list[RequestContext]:
    """Decide for each prompt, as if all experts were up."""
    catalog, metrics = catalogs.build(settings), Metrics()
    fleet = Fleet(catalog, UpstreamClient(), metrics, settings.health, settings.timeouts)
    table = load_table(settings.policy.quality_table, catalog, scorer)
    decided = []
    async with AsyncScorer(scorer, deadline_s=60, batch_size=1, queue_size=1) as async_scorer:
        live = live_variant(settings, catalog, async_scorer, table, Pace())
        pipeline = Pipeline(settings, catalog, fleet, live, budgets=Budgets(), sessions=SessionTable(1, 1))
        for prompt in prompts:
            body = {"model": AUTO, "messages": [{"role": "user", "content": prompt}]}
            context = RequestContext("", Endpoint.CHAT, catalog, request_model=AUTO)
            request = ApiRequest(Endpoint.CHAT, body, AUTO, stream=False, include_usage=False)
            await pipeline.decide(request, context, Controls())
            decided.append(context)
    return decided


def _happened(template: RequestContext, name: str, moment: datetime, chance: random.Random) -> RequestContext:
    """Return a request like another one, at its own time and with figures of its own."""
    took_s = 0.15 + chance.lognormvariate(-0.6, 0.6)
    started = time.perf_counter() - took_s
    scored_s = chance.lognormvariate(-5.9, 0.3)
    received = started + chance.uniform(0.0002, 0.002)
    context = replace(
        template,
        request_id=name,
        started_at=moment,
        started=started,
        received=received,
        scored_s=scored_s,
        dispatched=received + scored_s + chance.uniform(0.0003, 0.001),
        stream=chance.random() < _STREAMS,
        usage=Usage(),
        attempts=[],
    )
    if template.scores is not None and template.decision is not None:
        scores = _moved(template.scores, template.threshold or 0, chance)
        context.scores = scores
        confidence = None if template.decision.confidence is None else scores.top()[1]
        context.decision = replace(template.decision, confidence=confidence)
    return context


def _moved(scores: DomainScores, threshold: float, chance: random.Random) -> DomainScores:
    """Return scores a little off, of another prompt as it were, on which the decision would be the same."""
    noise = np.array([chance.gauss(0, _NOISE) for _ in scores.labels])
    moved = scores.probabilities * np.exp(noise)
    found = replace(scores, probabilities=(moved / moved.sum()).astype(np.float32))
    same = found.top()[0] == scores.top()[0] and (found.top()[1] >= threshold) == (scores.top()[1] >= threshold)
    return found if same else scores


def _answered(context: RequestContext, chance: random.Random, *, outage: bool) -> None:
    """Add who answered, how fast, and what went wrong."""
    assert context.decision is not None
    now, overhead_s = time.perf_counter(), context.overhead_s()
    tried = [context.decision.expert]
    if outage and tried[0] is _unlucky(context):
        context.attempts.append(_failed(tried[0], UpstreamUnreachable, overhead_s))
        tried = list(context.decision.fallbacks[:1])
    if tried and chance.random() < _LOST:
        context.attempts.append(_failed(tried[0], UpstreamReset, overhead_s))
        tried = []
    if not tried:
        context.status, context.error = UpstreamReset.status, context.attempts[-1].outcome
        return
    expert = tried[0]
    first_byte = context.started + overhead_s + (now - context.started - overhead_s) * chance.uniform(0.1, 0.4)
    context.first_byte = first_byte if context.stream else now
    took_s = context.first_byte - context.started - overhead_s
    context.attempts.append(Attempt(expert.name, expert.upstreams[0].url, "ok", 200, True, overhead_s, took_s))
    context.chosen, context.status, context.finish = expert.name, 200, chance.choice(("stop", "stop", "stop", "length"))
    length = context.features.token_estimate if context.features else 20
    context.usage = Usage(length + chance.randint(5, 90), int(chance.lognormvariate(4.8, 0.7)) + 1, 0)
    if context.stream and chance.random() < _LEFT:
        context.status, context.error = ClientLeft.status, ClientLeft.code


def _failed(expert: Expert, error: type[UpstreamError], began_s: float) -> Attempt:
    return Attempt(expert.name, expert.upstreams[0].url, error.code, None, error is UpstreamReset, began_s, 0.004)


def _unlucky(context: RequestContext) -> Expert | None:
    """Return who was gone for a while: the first specialist of the configuration."""
    catalog = context.catalog
    return next((expert for expert in catalog.experts.values() if expert is not catalog.generalist), None)


def _is_unsure(context: RequestContext) -> bool:
    return context.decision is not None and context.decision.reason is Reason.LOW_CONFIDENCE


def _during_outage(moment: datetime, past: Past) -> bool:
    since = past.until - timedelta(days=OUTAGE_DAYS)
    return since <= moment < since + timedelta(seconds=OUTAGE_S)


def _busy(moment: datetime) -> float:
    """Return how much goes on at a time of day: 0.15 at night, up to 0.85 in the afternoon (UTC); 0.5 on average."""
    hours = moment.hour + moment.minute / 60
    return 0.5 - 0.35 * math.cos((hours - 2) / 24 * 2 * math.pi)
