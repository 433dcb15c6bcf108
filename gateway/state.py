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
from gateway.context import RequestContext
from gateway.dispatch import Dispatcher
from gateway.errors import PointsmanError
from gateway.health import Fleet
from gateway.metrics import Metrics
from gateway.pipeline import Pipeline, thresholds_of
from gateway.recorder import Recorder
from gateway.scoring import AsyncScorer
from gateway.settings import Settings
from gateway.types import Catalog, Endpoint
from gateway.upstream import UpstreamClient
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


class Gateway:
    """The running gateway; an async context manager.

    Args:
        settings: the configuration.
        scorer: used instead of the configured artifact, for tests and for scorers of your own.

    Raises:
        MissingSecret: an environment variable that the settings name is not set.
        UnknownDomain: a threshold is set for a domain that `scorer` does not have.
    """

    def __init__(self, settings: Settings, *, scorer: Scorer | None = None) -> None:
        if scorer is not None:  # Before anything is opened: this is the caller's mistake, not a failed start.
            thresholds_of(settings.router, scorer.labels, scorer.thresholds)
        self.settings = settings
        self.catalog = catalogs.build(settings)
        self.metrics = Metrics()
        self.recorder = Recorder(self.metrics, log_requests=settings.server.log_requests)
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
        """
        async with AsyncExitStack() as stack:
            client = await stack.enter_async_context(UpstreamClient())
            self._current = await self._open_generation(stack, client)
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

    async def _open_generation(self, stack: AsyncExitStack, client: UpstreamClient) -> Generation:
        settings, catalog = self.settings, self.catalog
        scorer = self._scorer
        if scorer is None:
            scorer = await asyncio.to_thread(load_scorer, settings.router.artifact, threads=settings.router.threads)
        async_scorer = await stack.enter_async_context(
            AsyncScorer(
                scorer,
                deadline_s=settings.router.deadline_s,
                batch_size=settings.router.batch_size,
                queue_size=settings.router.queue_size,
            )
        )
        fleet = await stack.enter_async_context(
            Fleet(catalog, client, self.metrics, settings.health, settings.timeouts)
        )
        self.metrics.catalog.labels(catalog.version).set(1)
        pipeline = Pipeline(settings, catalog, fleet, async_scorer)
        for domain in async_scorer.labels:
            self.metrics.threshold.labels(domain).set(pipeline.thresholds.of(domain))
        return Generation(
            settings=settings,
            catalog=catalog,
            fleet=fleet,
            scorer=async_scorer,
            pipeline=pipeline,
            dispatcher=Dispatcher(client, fleet, self.metrics, settings.limits),
        )


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
