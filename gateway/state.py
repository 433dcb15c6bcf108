"""The one object that owns everything that lives: client, classifiers, generations. Opened and closed with the server.

What belongs to one configuration is a `Generation`, swapped whole; what belongs to the process (connections, pace,
budgets, sessions, ratings, metrics) survives the swap. Nothing here is global.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from typing import Any, Self

import structlog

from gateway.admission import Admission
from gateway.answering import Answering
from gateway.budgets import Budgets
from gateway.cache import CachedAnswering, ResponseCache
from gateway.context import RequestContext, RouteRecord
from gateway.dispatch import Dispatcher
from gateway.errors import PointsmanError, ShuttingDown
from gateway.feedback import Feedback
from gateway.generation import Generation, Plan, Running, plan
from gateway.health import Fleet, Reliability
from gateway.lag import Lag
from gateway.lately import Lately
from gateway.limit_metrics import LimitMetrics
from gateway.limiting import AFTER_S, make_limits, used_by
from gateway.metrics import Metrics
from gateway.pace import Pace
from gateway.pipeline import Pipeline
from gateway.record_keeping import ALONE, RecordKeeping, Share
from gateway.recorder import Observer, Recorder
from gateway.retry_budget import RetryBudget
from gateway.scorers import Scorers
from gateway.sessions import SessionTable, continued
from gateway.settings import FeedbackSettings, Settings
from gateway.stores.feedback import check as check_feedback_file
from gateway.stores.records.contract import Value
from gateway.types import Catalog, Endpoint
from gateway.upstream import UpstreamClient
from gateway.variants import Variant, canary_variant, live_variant
from router import Scorer

log = structlog.get_logger(__name__)


class Gateway:
    """The running gateway; an async context manager.

    Args:
        settings: the configuration.
        scorer: used instead of the configured artifact, for tests and for scorers of your own.
        share: this process's part of the work on the store of records.

    Attributes:
        records: where finished requests are kept; None when they are not.
        prompts: kept prompts and people's labels, beside the records; None without those.
        draining: the process is about to end; no load balancer should send anything more.
        on_change: told of every generation that comes into use, the first one too, on the event loop.

    Raises:
        MissingSecret, SameKey, OpenDoor, UnknownDomain, StoreError, router.RouterError: see `generation.plan`; and the
            file for feedback, or the store of records, cannot be used.
    """

    def __init__(self, settings: Settings, *, scorer: Scorer | None = None, share: Share = ALONE) -> None:
        self.metrics = Metrics()
        self.pace = Pace()
        self.lately = Lately()
        self.limits = make_limits(settings, self.event)
        self.budgets = Budgets(limits=self.limits)
        LimitMetrics(self.metrics.registry, self.limits)
        self.retries = RetryBudget(settings.retries)
        self.admission = Admission(settings.overload)
        self.metrics.reliability.watch_process(self.admission, self.retries)
        self.sessions = SessionTable(settings.sessions.capacity, settings.sessions.idle_s)
        self.cache = ResponseCache(settings.cache)
        self.metrics.watch_cache(self.cache.state)
        self.draining = False
        self.on_change: list[Callable[[Generation], None]] = []
        self._scorers = Scorers(scorer)
        self._client = UpstreamClient(lambda at: self.settings.forbids(at), self.metrics.reliability.forbidden.inc)
        self._first = plan(settings, self._scorers)
        self.feedback = self._make_feedback(settings.feedback)
        observers: tuple[Observer, ...] = (self._learn, self._spend, self._remember, self._keep_for_rating)
        self.records = RecordKeeping(settings.records, self.metrics, share) if settings.records.wanted else None
        self.prompts = None if self.records is None else self.records.prompts
        if self.records is not None:
            observers = (*observers, self.records.note)
        self.recorder = Recorder(self.metrics, log_requests=settings.server.log_requests, observers=observers)
        self._changing = asyncio.Lock()
        self._retired: dict[Generation, asyncio.Task[None]] = {}
        self._resources = AsyncExitStack()
        self._current: Generation | None = None

    @property
    def current(self) -> Generation:
        """The generation new requests get."""
        assert self._current is not None, "the gateway is not open"
        return self._current

    @property
    def settings(self) -> Settings:
        """The configuration in use."""
        return (self._current or self._first).settings

    @property
    def catalog(self) -> Catalog:
        """The experts in use."""
        return (self._current or self._first).catalog

    @property
    def ready(self) -> bool:
        """Configuration and classifier are loaded, at least one expert can answer, and the process goes on."""
        return (
            self._current is not None
            and not self.draining
            and any(self._current.fleet.usable(expert) for expert in self._current.catalog.experts.values())
        )

    async def __aenter__(self) -> Self:
        """Open the client, warm up the classifier, probe the upstreams.

        Raises:
            gateway.stores.sqlite.StoreError: the file for feedback cannot be used.
        """
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self._client)
            if self.records is not None:
                await stack.enter_async_context(self.records)
            await stack.enter_async_context(self.limits)
            if self.feedback is not None:
                await self.feedback.__aenter__()
            stack.push_async_callback(self._close)
            self._use(await self._open(self._first))
            stack.enter_context(Lag(self.metrics, self._notice_lag))
            self._resources = stack.pop_all()
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Close everything, last opened first."""
        await self._resources.aclose()

    def plan(self, settings: Settings) -> Plan:
        """Check another configuration; see `generation.plan`. Reads files: call it in a thread."""
        if settings.feedback != self.settings.feedback and settings.feedback.database is not None:
            check_feedback_file(settings.feedback.database)
        return plan(settings, self._scorers)

    async def switch(self, planned: Plan) -> Generation:
        """Use another configuration from now on. Running requests end with the one they began with.

        One at a time: a second call waits for the first.

        Raises:
            gateway.stores.sqlite.StoreError: the file for feedback cannot be used; nothing has changed then.
        """
        async with self._changing:
            before = self.current
            async with AsyncExitStack() as stack:
                feedback = self.feedback
                if planned.settings.feedback != before.settings.feedback:
                    feedback = await self._open_feedback(stack, planned.settings.feedback)
                generation = await self._open(planned, before)
                stack.pop_all()
            rated = None if feedback is self.feedback else self.feedback
            self.feedback = feedback
            self._use(generation)
            self._retired[before] = asyncio.create_task(self._retire(before, rated))
        return generation

    def stop_requests(self) -> None:
        """End all running requests of the data plane with an error that says why."""
        for generation in (*self._retired, self.current):
            generation.running.stop(lambda: ShuttingDown("The gateway is shutting down."))

    def event(self, kind: str, **detail: Value) -> None:
        """Keep what happened to the gateway beside the requests of its time."""
        if self.records is not None:
            self.records.event(kind, **detail)

    def record_refusal(self, scope: Mapping[str, Any], error: PointsmanError) -> None:
        """Record a data-plane request that the guard refused; others have no record."""
        endpoint = next((e for e in Endpoint if e.path == scope["path"]), None)
        if endpoint is None or self._current is None:
            return
        context = RequestContext(scope["request_id"], endpoint, self._current.catalog, grant=scope["grant"])
        context.status, context.error = error.status, error.code
        self.recorder.put(context)

    def _notice_lag(self, lag_s: float) -> None:
        # The classifier's queue is the only one that all share, and `router.deadline_s` bounds it.
        self.admission.observe(lag_s, 0.0)

    def _learn(self, context: RequestContext, record: RouteRecord) -> None:
        self.pace.note(record, context.answers)
        self.lately.note(record)

    def _spend(self, context: RequestContext, record: RouteRecord) -> None:
        if context.reservation is not None:
            context.reservation.settle(*used_by(context, record))

    def _remember(self, context: RequestContext, record: RouteRecord) -> None:
        conversation, decision = context.conversation, context.decision
        if conversation is None or decision is None or record.chosen is None or record.status != 200:
            return
        # Without a count the server has at least read the prompt.
        tokens = (record.input_tokens or record.prompt_token_estimate or 0) + (record.output_tokens or 0)
        session = continued(context.session, decision, record.chosen, tokens, record.conversation or "")
        self.sessions.remember(conversation, session)

    def _keep_for_rating(self, context: RequestContext, record: RouteRecord) -> None:
        if self.feedback is not None:
            self.feedback.remember(context, record)
            if self.prompts is not None:
                self.prompts.remember(context, record)

    def _make_feedback(self, settings: FeedbackSettings) -> Feedback | None:
        if settings.database is None:
            return None
        check_feedback_file(settings.database)
        return Feedback(settings, settings.database, self.metrics)

    async def _open_feedback(self, stack: AsyncExitStack, settings: FeedbackSettings) -> Feedback | None:
        if settings.database is None:
            return None
        return await stack.enter_async_context(Feedback(settings, settings.database, self.metrics))

    async def _open(self, planned: Plan, before: Generation | None = None) -> Generation:
        """Set a checked configuration running, beside the one in use. Nothing is wrong with it any more."""
        settings, catalog = planned.settings, planned.catalog
        async with AsyncExitStack() as stack:
            scorer = await stack.enter_async_context(self._scorers.use(planned.scorer, settings.router))
            live = live_variant(settings, catalog, scorer, planned.table, self.pace)
            canary = await self._open_canary(stack, planned)
            fleet = Fleet(
                catalog,
                self._client,
                self.metrics,
                settings.health,
                settings.timeouts,
                known=None if before is None else before.fleet.states,
                reliability=Reliability(settings.breaker, settings.concurrency, settings.balancing),
                tell=self.event,
            )
            pipeline = Pipeline(
                settings, catalog, fleet, live, canary=canary, budgets=self.budgets, sessions=self.sessions
            )
            dispatcher = Dispatcher(self._client, fleet, self.metrics, settings.limits, self.retries)
            answering = Answering(settings.strategies, settings.limits, dispatcher, scorer.labels)
            await stack.enter_async_context(fleet)
            return Generation(
                settings=settings,
                catalog=catalog,
                grants=planned.grants,
                fleet=fleet,
                scorer=scorer,
                pipeline=pipeline,
                dispatcher=dispatcher,
                answering=answering,
                cached=CachedAnswering(settings.cache, self.cache, answering) if settings.cache.enabled else None,
                running=Running(),
                resources=stack.pop_all(),
            )

    async def _open_canary(self, stack: AsyncExitStack, planned: Plan) -> Variant | None:
        if planned.canary is None:
            return None
        scorer = await stack.enter_async_context(self._scorers.use(planned.canary, planned.settings.router))
        return canary_variant(planned.settings, planned.catalog, scorer, planned.canary_table, self.pace)

    def _use(self, generation: Generation) -> None:
        """Give new requests this generation; no request comes in between."""
        settings, before = generation.settings, self._current
        self._current = generation
        self._show(generation)
        self._scorers.adjust(settings.router)
        self.retries.configure(settings.retries)
        self.admission.configure(settings.overload)
        self.limits.configure(settings.quotas, settings.timeouts.total_s + AFTER_S)
        self.sessions.resize(settings.sessions.capacity, settings.sessions.idle_s)
        self.cache.configure(settings.cache)
        if before is not None and before.settings.server.log_requests != settings.server.log_requests:
            self.recorder.log_lines(wanted=settings.server.log_requests)
        for tell in self.on_change:
            tell(generation)

    def _show(self, generation: Generation) -> None:
        metrics = self.metrics
        metrics.forget_configuration()
        generation.fleet.publish()
        metrics.catalog.labels(generation.catalog.version).set(1)
        metrics.last_applied.set(datetime.now(UTC).timestamp())
        for domain in generation.scorer.labels:
            metrics.threshold.labels(domain).set(generation.pipeline.thresholds.of(domain))

    async def _retire(self, generation: Generation, feedback: Feedback | None) -> None:
        """Close a generation after its last request; none takes longer than its total limit."""
        await generation.fleet.stop()
        if feedback is not None:
            await feedback.__aexit__(None, None, None)
        await generation.running.wait(generation.settings.timeouts.total_s)
        await generation.resources.aclose()
        del self._retired[generation]

    async def _close(self) -> None:
        retired = dict(self._retired)
        for task in retired.values():
            task.cancel()
        await asyncio.gather(*retired.values(), return_exceptions=True)
        current = () if self._current is None else (self._current,)
        for generation in (*retired, *current):
            await generation.resources.aclose()
        self._current = None
        if self.feedback is not None:
            await self.feedback.__aexit__(None, None, None)
