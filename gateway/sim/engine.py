"""Admission and accounting of generations: who runs, who waits, who was aborted. It knows nothing of HTTP."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from gateway.sim.errors import overloaded
from gateway.sim.experts import SimExpert
from gateway.sim.metrics import Tallies
from gateway.sim.plans import Plan

CACHE_TOKENS = 65_536
"""Size of the pretended KV cache, for `kv_cache_usage_perc`."""


@dataclass(slots=True)
class Engine:
    """The engine of one expert.

    Args:
        expert: Its limits apply.
        changed: Called after every change of the counts.
        tallies: What `/metrics` shows.
        running: Requests being generated.
        aborted: Requests whose client left.
        cached_tokens: Tokens of the running requests.
        waiting: Places not yet given, oldest first.
    """

    expert: SimExpert
    changed: Callable[[], None]
    tallies: Tallies = field(default_factory=Tallies)
    running: int = 0
    aborted: int = 0
    cached_tokens: int = 0
    waiting: deque[asyncio.Future[None]] = field(default_factory=deque)

    @property
    def cache_usage(self) -> float:
        """Use of the pretended KV cache, 0 to 1."""
        return min(1.0, self.cached_tokens / CACHE_TOKENS)

    def admit(self, plan: Plan) -> Turn:
        """A place for one generation, held inside `async with`."""
        return Turn(self, plan)

    async def enter(self) -> None:
        """Take a place at once or in turn; a woken waiter was given its place by `wake`.

        Raises:
            SimError: the queue is full.
        """
        limit = self.expert.maximum_running
        if limit is None or (self.running < limit and not self.waiting):
            self.running += 1
            return
        if self.expert.maximum_queued is not None and len(self.waiting) >= self.expert.maximum_queued:
            self.tallies.rejections += 1
            raise overloaded()
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.waiting.append(place)
        self.changed()
        try:
            await place
        except asyncio.CancelledError:
            if place.cancelled():
                # `wake` may have dropped it already.
                with suppress(ValueError):
                    self.waiting.remove(place)
            else:
                self.running -= 1
                self.wake()
            self.aborted += 1
            self.changed()
            raise

    def wake(self) -> None:
        """Give free places to those who wait longest."""
        limit = self.expert.maximum_running
        while self.waiting and (limit is None or self.running < limit):
            place = self.waiting.popleft()
            if not place.done():
                self.running += 1
                place.set_result(None)


class Turn:
    """One generation's place. Left by an exception it counts as aborted by the client, unless `cut` was set."""

    __slots__ = ("_arrived_s", "_engine", "_plan", "cut", "started_s")

    def __init__(self, engine: Engine, plan: Plan) -> None:
        self._engine = engine
        self._plan = plan
        self._arrived_s = self.started_s = time.monotonic()
        self.cut = False
        """The simulator itself ended the connection."""

    async def __aenter__(self) -> Turn:
        engine = self._engine
        await engine.enter()
        self.started_s = time.monotonic()
        engine.cached_tokens += self._plan.prompt_tokens + self._plan.generated_tokens
        engine.changed()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        engine = self._engine
        engine.running -= 1
        engine.cached_tokens -= self._plan.prompt_tokens + self._plan.generated_tokens
        if kind is None and not self.cut:
            self._count()
        elif not self.cut:
            # vLLM does not count aborted requests in request_success either.
            engine.aborted += 1
        if engine.waiting:
            engine.wake()
        engine.changed()

    def first_token_sent(self) -> None:
        """Note the time to first token."""
        self._engine.tallies.first_token.observe(time.monotonic() - self._arrived_s)

    def _count(self) -> None:
        tallies, plan = self._engine.tallies, self._plan
        tallies.prompt_tokens += plan.prompt_tokens
        tallies.generation_tokens += plan.generated_tokens
        tallies.request_prompt.observe(plan.prompt_tokens)
        tallies.queued.observe(self.started_s - self._arrived_s)
        tallies.whole.observe(time.monotonic() - self._arrived_s)
        for answer in plan.answers:
            # The engine itself stops at a tool call; only the API calls it `tool_calls`.
            tallies.finished["length" if answer.finish == "length" else "stop"] += 1
            tallies.request_generation.observe(answer.generated)
