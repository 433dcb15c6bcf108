"""Admission and accounting of generations: who runs, who waits, who was aborted. It knows nothing of HTTP."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from gateway.sim.errors import overloaded
from gateway.sim.experts import SimExpert
from gateway.sim.metrics import EngineMetrics, Families
from gateway.sim.plans import Plan

CACHE_TOKENS = 65_536
"""Size of the pretended KV cache, for `kv_cache_usage_perc`."""


@dataclass(slots=True)
class Turn:
    """One admitted generation.

    Args:
        started_s: When it was admitted, on the monotonic clock.
        cut: The simulator itself ends the connection, so a lost client is no abort.
        complete: Everything was sent.
    """

    started_s: float
    cut: bool = False
    complete: bool = False


@dataclass(slots=True)
class Engine:
    """The engine of one expert.

    Args:
        expert: Its limits apply.
        metrics: Where it counts.
        changed: Called after every change of the counts.
    """

    expert: SimExpert
    metrics: EngineMetrics
    changed: Callable[[], None]
    running: int = 0
    aborted: int = 0
    cached_tokens: int = 0
    waiting: deque[asyncio.Future[None]] = field(default_factory=deque)

    @asynccontextmanager
    async def admit(self, plan: Plan) -> AsyncIterator[Turn]:
        """Hold a place while the block runs; a block left by an exception counts as aborted by the client.

        Raises:
            SimError: the queue is full.
        """
        arrived_s = time.monotonic()
        await self._enter()
        tokens = plan.prompt_tokens + plan.generated_tokens
        self.cached_tokens += tokens
        turn = Turn(time.monotonic())
        self.metrics.queued.observe(turn.started_s - arrived_s)
        self.changed()
        try:
            yield turn
            turn.complete = not turn.cut
        finally:
            self.running -= 1
            self.cached_tokens -= tokens
            self._count(plan, turn, arrived_s)
            self._wake()
            self.changed()

    async def _enter(self) -> None:
        """Take a place at once or in turn; a woken waiter was given its place by `_wake`."""
        limit = self.expert.maximum_running
        if limit is None or (self.running < limit and not self.waiting):
            self.running += 1
            return
        if self.expert.maximum_queued is not None and len(self.waiting) >= self.expert.maximum_queued:
            self.metrics.rejections.inc()
            raise overloaded()
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.waiting.append(place)
        self.changed()
        try:
            await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled():
                self.running -= 1
                self._wake()
            else:
                self.waiting.remove(place)
            self.aborted += 1
            self.changed()
            raise

    def _wake(self) -> None:
        limit = self.expert.maximum_running
        while self.waiting and (limit is None or self.running < limit):
            place = self.waiting.popleft()
            if not place.done():
                self.running += 1
                place.set_result(None)

    def _count(self, plan: Plan, turn: Turn, arrived_s: float) -> None:
        if not turn.complete:
            # vLLM does not count aborted requests in request_success either.
            self.aborted += 0 if turn.cut else 1
            return
        metrics = self.metrics
        metrics.prompt_tokens.inc(plan.prompt_tokens)
        metrics.prefix_queries.inc(plan.prompt_tokens)
        metrics.generation_tokens.inc(plan.generated_tokens)
        metrics.request_prompt.observe(plan.prompt_tokens)
        metrics.whole.observe(time.monotonic() - arrived_s)
        for answer in plan.answers:
            # The engine itself stops at a tool call; only the API calls it `tool_calls`.
            metrics.success["length" if answer.finish == "length" else "stop"].inc()
            metrics.request_generation.observe(answer.generated)

    def first_token_sent(self, turn: Turn) -> None:
        """Observe the time to first token."""
        self.metrics.first_token.observe(time.monotonic() - turn.started_s)

    def set_gauges(self) -> None:
        """Copy the counts into the gauges, before a scrape."""
        self.metrics.running.set(self.running)
        self.metrics.waiting.set(len(self.waiting))
        self.metrics.waiting_capacity.set(len(self.waiting))
        self.metrics.cache_usage.set(min(1.0, self.cached_tokens / CACHE_TOKENS))


def start_engines(experts: tuple[SimExpert, ...], families: Families, changed: Callable[[], None]) -> dict[str, Engine]:
    """One engine per expert, by model name."""
    return {expert.model: Engine(expert, EngineMetrics(expert, families), changed) for expert in experts}
