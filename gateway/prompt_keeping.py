"""Chooses which prompts are kept for people to look at, and has a thread write them. Never holds up a request.

Off unless `records.prompts.enabled`. Text goes to its own file or table only: into no log, no record and no answer of
the data plane. What cannot be written soon is dropped: a sample lost is nothing, a request held up is.
"""

from __future__ import annotations

import asyncio
import random
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Self

import structlog

from gateway.context import RequestContext, RouteRecord
from gateway.rate import RateLimit
from gateway.settings.prompts import PromptSettings
from gateway.settings.records import RecordSettings
from gateway.stores.prompts.choosing import database, limits
from gateway.stores.prompts.contract import Limits, Sample, Why
from gateway.stores.prompts.labels import Labels
from gateway.stores.prompts.samples import Samples
from gateway.stores.records.contract import QueryTooSlow, RecordsUnavailable, microseconds
from gateway.stores.records.tables import clean

log = structlog.get_logger(__name__)

QUEUE_ROWS = 500
BATCH_ROWS = 100
BATCH_S = 0.3
RETAIN_EVERY_S = 60.0
CLOSE_S = 3.0
GOOD_FROM = 0.5


@dataclass(frozen=True, slots=True)
class KeepingState:
    """How keeping goes, in this process since its start.

    Attributes:
        queued: prompts that wait to be written.
        written: prompts written.
        dropped: prompts that found the queue full or could not be written.
        failing: why the last try to write failed; None when it did not.
    """

    queued: int
    written: int
    dropped: int
    failing: str | None


class PromptKeeping:
    """An async context manager; entered before the first request, left after the last one.

    Args:
        settings: the configuration's section `records`; one of its places is set.
        tidies: delete what is too old here; of several processes one does.
        clock: the time of day.
        draw: a number from 0 to 1, by which chance picks.

    Attributes:
        samples: what is kept.
        labels: what people say of it, and of other requests.

    Raises:
        MissingSecret: the environment variable of the database is not set.
    """

    def __init__(
        self,
        settings: RecordSettings,
        *,
        tidies: bool = True,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._place = database(settings)
        self.samples = Samples(self._place)
        self.labels = Labels(self._place)
        self._limits: Limits = limits(settings)
        self._tidies = tidies
        self._clock = clock
        self._draw = draw
        self._chooser = _Chooser(settings.prompts)
        self._recent: OrderedDict[tuple[str, str], tuple[str, RouteRecord]] = OrderedDict()
        self._queue: deque[Sample] = deque()
        self._written = self._dropped = self._lost = self._writing = 0
        self._failing: str | None = None
        self._full = threading.Event()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._work, name="prompts", daemon=True)

    @property
    def settings(self) -> PromptSettings:
        """What is kept now."""
        return self._chooser.settings

    async def __aenter__(self) -> Self:
        """Begin to write."""
        self._thread.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Write what waits, for some seconds at most."""
        self._closing.set()
        self._full.set()
        await asyncio.to_thread(self._thread.join, CLOSE_S)

    def note(self, context: RequestContext, record: RouteRecord) -> None:
        """Take a finished request; an observer of the recorder."""
        text = self._text_of(context, record)
        if text and (why := self._chooser.why(record, self._draw())):
            self._put(_sample(text, record, why, self.settings.longest_characters))

    def remember(self, context: RequestContext, record: RouteRecord) -> None:
        """Hold a finished request's prompt in memory for a while; it is kept if a bad rating comes."""
        text = self._text_of(context, record)
        if not text or not self.settings.thumbs_down:
            return
        owner = (record.key, record.request_id)
        self._recent.pop(owner, None)
        self._recent[owner] = (text, record)
        if len(self._recent) > self.settings.remember:
            self._recent.popitem(last=False)

    def rated(self, key: str, request_id: str, score: float) -> None:
        """Keep the prompt of a request that was rated badly, while it is remembered."""
        found = self._recent.pop((key, request_id), None)
        if found is not None and score < GOOD_FROM and self._chooser.admits(Why.THUMBS_DOWN):
            self._put(_sample(*found, (Why.THUMBS_DOWN,), self.settings.longest_characters))

    def forget(self) -> int:
        """Delete all kept prompts, those that wait too; blocks. Returns how many there were in the store.

        Raises:
            RecordsUnavailable: not now.
        """
        self._queue.clear()
        self._recent.clear()
        return self.samples.clear()

    def state(self) -> KeepingState:
        """Return how keeping goes; from any thread."""
        return KeepingState(len(self._queue) + self._writing, self._written, self._dropped + self._lost, self._failing)

    def _text_of(self, context: RequestContext, record: RouteRecord) -> str:
        """Return what may be kept of a request: "" unless it was scored, and its key's prompts may be."""
        if not self.settings.enabled or context.features is None or context.scores is None:
            return ""
        return "" if record.key in self.settings.never else context.features.text

    def _put(self, sample: Sample) -> None:
        if len(self._queue) >= QUEUE_ROWS:
            self._dropped += 1
            return
        self._queue.append(sample)
        if len(self._queue) >= BATCH_ROWS:
            self._full.set()

    def _work(self) -> None:
        since_s = RETAIN_EVERY_S
        while not self._closing.is_set():
            self._full.wait(BATCH_S)
            self._full.clear()
            self._write()
            since_s += BATCH_S
            if self._tidies and since_s >= RETAIN_EVERY_S:
                since_s = RETAIN_EVERY_S - BATCH_S if self._retain() else 0.0
        self._write()

    def _write(self) -> None:
        while self._queue:
            self._writing = min(len(self._queue), BATCH_ROWS)
            batch = list(_taken(self._queue, self._writing))
            try:
                self.samples.put(batch)
            except Exception as error:  # noqa: BLE001 - this thread must not end, and a driver may raise anything
                self._failed(error)
                self._lost += len(batch)
            else:
                self._written += len(batch)
                self._failing = None
            self._writing = 0

    def _retain(self) -> int:
        try:
            if not self._place.exists():
                return 0  # nor made, only to find that it is empty
            return self.samples.retain(self._limits, microseconds(self._clock()))
        except Exception as error:  # noqa: BLE001 - see _write
            self._failed(error)
            return 0

    def _failed(self, error: Exception) -> None:
        # Of any other error the message may hold a value, which may be a prompt.
        known = isinstance(error, RecordsUnavailable | QueryTooSlow)
        name = str(error) if known else type(error).__name__
        if self._failing is None:
            log.error("prompt_store_failed", error=name)
        self._failing = name


class _Chooser:
    """Says why a prompt is kept, under one configuration."""

    def __init__(self, settings: PromptSettings) -> None:
        self.settings = settings
        self._rate = RateLimit(settings.per_minute)

    def admits(self, why: Why) -> bool:
        """Count one prompt that is kept for a reason; False: there were too many in this minute."""
        return self._rate.take(why.value) == 0

    def why(self, record: RouteRecord, drawn: float) -> tuple[Why, ...]:
        """Return why a finished request's prompt is kept; nothing: it is not."""
        settings, found = self.settings, []
        if drawn < settings.share:
            found.append(Why.RANDOM)
        if record.margin is not None and record.margin < settings.low_margin:
            found.append(Why.LOW_MARGIN)
        limit, strange = record.maximum_out_of_domain, record.out_of_domain
        if settings.out_of_domain and limit is not None and strange is not None and strange > limit:
            found.append(Why.OUT_OF_DOMAIN)
        return tuple(why for why in found if self.admits(why))


def _taken(queue: deque[Sample], count: int) -> Iterator[Sample]:
    with suppress(IndexError):  # the queue is cleared when all prompts are deleted
        for _ in range(count):
            yield queue.popleft()


def _sample(text: str, record: RouteRecord, why: tuple[Why, ...], longest: int) -> Sample:
    return Sample(
        at_us=microseconds(record.timestamp),
        id=clean(record.request_id),
        text=clean(text, longest),
        predicted=_best(record),
        confidence=_of_best(record),
        margin=record.margin,
        out_of_domain=record.out_of_domain,
        chosen=record.chosen,
        reason=record.reason,
        why=why,
    )


def _best(record: RouteRecord) -> str | None:
    """Return the domain that was found, whatever was decided then."""
    return next(iter(record.scores), record.domain)


def _of_best(record: RouteRecord) -> float | None:
    return next(iter(record.scores.values()), record.confidence)
