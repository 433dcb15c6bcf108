"""The one object that owns everything that lives: client, scorer, catalog, fleet. Opened and closed with the server.

What belongs to one configuration is a `Generation`, immutable and swapped whole; a running request keeps the one
it began with. Nothing here is global.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any, Self

from gateway import catalog as catalogs
from gateway import language
from gateway.answering import Answering
from gateway.budgets import Budgets
from gateway.context import RequestContext, RouteRecord
from gateway.dispatch import Dispatcher
from gateway.errors import PointsmanError
from gateway.feedback import Feedback
from gateway.health import Fleet
from gateway.metrics import Metrics
from gateway.pace import Pace
from gateway.pipeline import Pipeline
from gateway.recorder import Recorder
from gateway.scoring import AsyncScorer
from gateway.sessions import SessionTable, continued
from gateway.settings import Settings
from gateway.stores.feedback import check as check_feedback_file
from gateway.thresholds import thresholds_of
from gateway.types import Catalog, Endpoint
from gateway.upstream import UpstreamClient
from gateway.variants import Variant, canary_variant, live_variant, load_table
from router import Scorer, load_scorer

LAG_EVERY_S = 0.5


@dataclass(frozen=True, slots=True)
class Generation:
    """All that follows from one configuration."""

    settings: Settings
    catalog: Catalog
    fleet: Fleet
    scorer: AsyncScorer
    pipeline: Pipeline
    dispatcher: Dispatcher
    answering: Answering


class Gateway:
    """The running gateway; an async context manager.

    Args:
        settings: the configuration.
        scorer: used instead of the configured artifact, for tests and for scorers of your own.

    Raises:
        MissingSecret: an environment variable that the settings name is not set.
        UnknownDomain: a threshold is set for a domain that `scorer` does not have.
        router.QualityError: the quality table cannot be used with `scorer`.
        gateway.stores.sqlite.StoreError: the file for feedback cannot be used.
    """

    def __init__(self, settings: Settings, *, scorer: Scorer | None = None) -> None:
        self.settings = settings
        self.catalog = catalogs.build(settings)
        if scorer is not None:  # Before anything is opened: these are the caller's mistakes, not a failed start.
            thresholds_of(settings.router, scorer.labels, scorer.thresholds)
            load_table(settings.policy.quality_table, self.catalog, scorer)
        self.metrics = Metrics()
        self.pace = Pace()
        self.budgets = Budgets()
        self.feedback = self._feedback()
        self.sessions = SessionTable(settings.sessions.capacity, settings.sessions.idle_s)
        observers = [self._learn, self._spend, self._remember]
        if self.feedback is not None:
            observers.append(self.feedback.remember)
        self.recorder = Recorder(self.metrics, log_requests=settings.server.log_requests, observers=observers)
        self._scorer = scorer
        self._resources = AsyncExitStack()
        self._current: Generation | None = None

    @property
    def current(self) -> Generation:
        """The generation new requests get."""
        assert self._current is not None, "the gateway is not open"
        return self._current

    @property
    def ready(self) -> bool:
        """Configuration and classifier are loaded and at least one expert can answer."""
        return self._current is not None and any(
            self._current.fleet.usable(expert) for expert in self._current.catalog.experts.values()
        )

    async def __aenter__(self) -> Self:
        """Load the classifier, open the client, probe the upstreams.

        Raises:
            router.ArtifactError: the configured artifact cannot be used.
            UnknownDomain: a threshold is set for a domain that the artifact does not have.
            gateway.stores.sqlite.StoreError: the file for feedback cannot be used.
        """
        async with AsyncExitStack() as stack:
            client = await stack.enter_async_context(UpstreamClient())
            self._current = await self._open_generation(stack, client)
            if self.feedback is not None:
                await stack.enter_async_context(self.feedback)
            stack.enter_context(_Lag(self.metrics))
            self._resources = stack.pop_all()
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Close everything, last opened first."""
        await self._resources.aclose()
        self._current = None

    def record_refusal(self, scope: Mapping[str, Any], error: PointsmanError) -> None:
        """Record a data-plane request that the guard refused; others have no record."""
        endpoint = next((e for e in Endpoint if e.path == scope["path"]), None)
        if endpoint is None or self._current is None:
            return
        context = RequestContext(scope["request_id"], endpoint, self._current.catalog)
        context.status, context.error = error.status, error.code
        self.recorder.put(context)

    def _feedback(self) -> Feedback | None:
        settings = self.settings.feedback
        if settings.database is None:
            return None
        check_feedback_file(settings.database)
        return Feedback(settings, settings.database, self.metrics)

    def _learn(self, context: RequestContext, record: RouteRecord) -> None:
        self.pace.note(record)

    def _spend(self, context: RequestContext, record: RouteRecord) -> None:
        self.budgets.note(record.key, record.cost)

    def _remember(self, context: RequestContext, record: RouteRecord) -> None:
        conversation, decision = context.conversation, context.decision
        if conversation is None or decision is None or record.chosen is None or record.status != 200:
            return
        # Without a count the server has at least read the prompt.
        tokens = (record.input_tokens or record.prompt_token_estimate or 0) + (record.output_tokens or 0)
        self.sessions.remember(conversation, continued(context.session, decision, record.chosen, tokens))

    async def _open_generation(self, stack: AsyncExitStack, client: UpstreamClient) -> Generation:
        settings, catalog = self.settings, self.catalog
        scorer = await self._open_scorer(stack, self._scorer, settings.router.artifact)
        fleet = await stack.enter_async_context(
            Fleet(catalog, client, self.metrics, settings.health, settings.timeouts)
        )
        self.metrics.catalog.labels(catalog.version).set(1)
        if any(expert.languages for expert in catalog.experts.values()):
            await asyncio.to_thread(language.prepare)
        table = load_table(settings.policy.quality_table, catalog, scorer.scorer)
        live = live_variant(settings, catalog, scorer, table, self.pace)
        for domain in scorer.labels:
            self.metrics.threshold.labels(domain).set(live.thresholds.of(domain))
        canary = await self._open_canary(stack, live)
        pipeline = Pipeline(settings, catalog, fleet, live, canary=canary, budgets=self.budgets, sessions=self.sessions)
        dispatcher = Dispatcher(client, fleet, self.metrics, settings.limits)
        return Generation(
            settings=settings,
            catalog=catalog,
            fleet=fleet,
            scorer=scorer,
            pipeline=pipeline,
            dispatcher=dispatcher,
            answering=Answering(settings.strategies, settings.limits, dispatcher, scorer.labels),
        )

    async def _open_scorer(self, stack: AsyncExitStack, scorer: Scorer | None, artifact: str) -> AsyncScorer:
        settings = self.settings.router
        if scorer is None:
            scorer = await asyncio.to_thread(load_scorer, artifact, threads=settings.threads)
        return await stack.enter_async_context(
            AsyncScorer(
                scorer,
                deadline_s=settings.deadline_s,
                batch_size=settings.batch_size,
                queue_size=settings.queue_size,
            )
        )

    async def _open_canary(self, stack: AsyncExitStack, live: Variant) -> Variant | None:
        canary = self.settings.canary
        if canary is None:
            return None
        scorer = live.scorer
        if canary.artifact is not None:
            scorer = await self._open_scorer(stack, None, canary.artifact)
        path = canary.quality_table or self.settings.policy.quality_table
        table = load_table(path, self.catalog, scorer.scorer)
        return canary_variant(self.settings, self.catalog, scorer, table, self.pace)


class _Lag:
    """Measures how late the event loop runs: everything that blocks it shows here."""

    def __init__(self, metrics: Metrics) -> None:
        self._histogram = metrics.loop_lag

    def __enter__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._schedule()

    def __exit__(self, *exc: object) -> None:
        self._timer.cancel()

    def _schedule(self) -> None:
        self._due = self._loop.time() + LAG_EVERY_S
        self._timer = self._loop.call_at(self._due, self._measure)

    def _measure(self) -> None:
        self._histogram.observe(max(0.0, self._loop.time() - self._due))
        self._schedule()
