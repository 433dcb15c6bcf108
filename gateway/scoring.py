"""The one bridge from the synchronous scorer to the event loop: own thread, natural batches, a deadline. Never raises.

While one batch runs, prompts queue; when it ends, all that wait (up to the batch size) are the next batch. So a
lone prompt is never delayed for company, and under load the batch grows by itself. Nothing about HTTP here.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from contextlib import suppress
from queue import SimpleQueue
from typing import Self

import structlog

from gateway.breaker import Breaker, BreakerState, Failure, Rank, Why
from gateway.settings.reliability import BreakerSettings
from gateway.types import Reason
from router import DomainScores, Scorer, Thresholds

log = structlog.get_logger(__name__)

# A scorer that fails ten times in a row is not asked for some seconds: each call costs a core that others could use.
BREAKER = BreakerSettings(server_failures=10, ejection_s=5, longest_ejection_s=60)

_Rows = list[DomainScores] | None
_Job = tuple[list[str], asyncio.AbstractEventLoop, "asyncio.Future[_Rows]"]
_Waiting = tuple[str, asyncio.Future[DomainScores | None]]


class AsyncScorer:
    """Scores prompts off the event loop.

    Args:
        scorer: any scorer; called from one thread only.
        deadline_s: how long a request waits for its scores, queueing included.
        batch_size: most prompts in one call of the scorer.
        queue_size: most prompts waiting; one more is answered `SCORER_TIMEOUT` at once.
        breaker: when a scorer that fails is left alone; prompts are answered `SCORER_ERROR` at once then.
    """

    def __init__(
        self,
        scorer: Scorer,
        *,
        deadline_s: float,
        batch_size: int,
        queue_size: int,
        breaker: BreakerSettings = BREAKER,
    ) -> None:
        self.scorer = scorer
        self._breaker = Breaker(breaker, changed=_announce)
        self._deadline_s = deadline_s
        self._batch_size = batch_size
        self._queue_size = queue_size
        self._waiting: deque[_Waiting] = deque()
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._pump: asyncio.Task[None] | None = None

    @property
    def labels(self) -> tuple[str, ...]:
        """The scorer's domains."""
        return self.scorer.labels

    @property
    def thresholds(self) -> Thresholds:
        """When to abstain, as fitted with the scorer."""
        return self.scorer.thresholds

    def adjust(self, *, deadline_s: float, batch_size: int, queue_size: int) -> None:
        """Work within other limits from now on; see the class."""
        self._deadline_s = deadline_s
        self._batch_size = batch_size
        self._queue_size = queue_size

    async def __aenter__(self) -> Self:
        """Run the scorer once, so that the first request does not pay for its warm-up."""
        # A daemon: a scorer that hangs must not keep the process from ending.
        threading.Thread(target=self._work, name="scorer", daemon=True).start()
        await self._in_thread(["warm up"])
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Stop; a run in progress ends by itself in its thread."""
        if self._pump is not None:
            self._pump.cancel()
            await asyncio.gather(self._pump, return_exceptions=True)
        self._jobs.put(None)

    async def score(self, text: str) -> DomainScores | Reason:
        """Return the scores of one prompt, or the reason why there are none."""
        if not text:
            return Reason.NO_TEXT
        if self._breaker.rank is Rank.EJECTED:
            return Reason.SCORER_ERROR
        if len(self._waiting) >= self._queue_size:
            return Reason.SCORER_TIMEOUT
        answer: asyncio.Future[DomainScores | None] = asyncio.get_running_loop().create_future()
        self._waiting.append((text, answer))
        if self._pump is None or self._pump.done():
            self._pump = asyncio.create_task(self._run_batches())
        try:
            async with asyncio.timeout(self._deadline_s):
                scores = await answer
        except TimeoutError:
            return Reason.SCORER_TIMEOUT
        return Reason.SCORER_ERROR if scores is None else scores

    async def _run_batches(self) -> None:
        while batch := self._next_batch():
            trial = self._breaker.begin()
            try:
                rows = await self._in_thread([text for text, _ in batch])
                trial.succeeded() if rows is not None else trial.failed(Failure.SERVER)
            finally:
                trial.close()
            for index, (_, answer) in enumerate(batch):
                if not answer.done():
                    answer.set_result(None if rows is None else rows[index])

    def _in_thread(self, texts: list[str]) -> asyncio.Future[_Rows]:
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[_Rows] = loop.create_future()
        self._jobs.put((texts, loop, answer))
        return answer

    def _work(self) -> None:
        """Run in the scorer's thread until told to stop. An executor's futures would cost as much as a small scorer."""
        while (job := self._jobs.get()) is not None:
            texts, loop, answer = job
            rows = self._score_batch(texts)
            with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(_settle, answer, rows)

    def _next_batch(self) -> list[_Waiting]:
        """Take the next prompts; those whose request gave up are dropped unscored."""
        batch: list[_Waiting] = []
        while self._waiting and len(batch) < self._batch_size:
            text, answer = self._waiting.popleft()
            if not answer.done():
                batch.append((text, answer))
        return batch

    def _score_batch(self, texts: list[str]) -> list[DomainScores] | None:
        """Run in the scorer's thread. Whatever a scorer does wrong, the requests go on without scores."""
        try:
            batch = self.scorer.score(texts)
            if batch.labels == self.scorer.labels and batch.is_sound(len(texts)):
                return list(batch)
        except Exception as error:  # noqa: BLE001 - a scorer is any code; failing open is this class's promise
            log.error("scorer_error", error=type(error).__name__)
            return None
        log.error("scorer_error", error="bad_output", prompts=len(texts))
        return None


def _settle(answer: asyncio.Future[_Rows], rows: _Rows) -> None:
    if not answer.done():
        answer.set_result(rows)


def _announce(state: BreakerState, why: Why | None) -> None:
    if why is not None:
        log.error("scorer_ejected", why=why.value)
    elif state is BreakerState.CLOSED:
        log.info("scorer_back")
