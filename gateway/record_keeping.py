"""Keeps finished requests while the gateway is open: store, writer, retention, and what can be asked. Decides nothing.

Set up once: a store is not changed under running requests, so a changed section `records` counts after a restart.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Self

from gateway.context import RequestContext, RouteRecord
from gateway.metrics import Metrics
from gateway.prompt_keeping import PromptKeeping
from gateway.record_metrics import RecordMetrics
from gateway.record_writer import RecordWriter, WriterState
from gateway.settings.records import RecordSettings
from gateway.stores.records.choosing import open_store, queries, retention
from gateway.stores.records.contract import Value


@dataclass(frozen=True, slots=True)
class Share:
    """Which part of the work on a store one of several processes of a gateway has.

    Attributes:
        group: what they have in common; None when there is one process only.
        tidies: whether this one deletes what is too old.
    """

    group: str | None = None
    tidies: bool = True


ALONE = Share()


class RecordKeeping:
    """An async context manager; entered before the first request, left after the last one.

    Args:
        settings: says where; one of the places is set.
        metrics: where the writer is shown.
        share: this process's part.

    Attributes:
        queries: what can be asked of the store.
        prompts: what is kept of prompts, beside it.

    Raises:
        StoreError: the store cannot be used.
        MissingSecret: the environment variable is not set.
    """

    def __init__(self, settings: RecordSettings, metrics: Metrics, share: Share = ALONE) -> None:
        self.queries = queries(settings)
        rules = retention(settings) if share.tidies else None
        self._writer = RecordWriter(open_store(settings, group=share.group), rules, queue_rows=settings.queue_rows)
        self.prompts = PromptKeeping(settings, tidies=share.tidies)
        RecordMetrics(metrics.registry, self._writer.state)

    async def __aenter__(self) -> Self:
        """Begin to write."""
        self._writer.__enter__()
        await self.prompts.__aenter__()
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Write what waits, for some seconds at most."""
        await self.prompts.__aexit__(*exc)
        await asyncio.to_thread(self._writer.close)

    def note(self, context: RequestContext, record: RouteRecord) -> None:
        """Take a finished request; costs a microsecond and never fails."""
        self._writer.note(context, record)
        self.prompts.note(context, record)

    def event(self, kind: str, **detail: Value) -> None:
        """Take something that happened to the gateway, to be shown beside the requests of its time."""
        self._writer.put_event(kind, **detail)

    def state(self) -> WriterState:
        """Return how the writer is doing; from any thread."""
        return self._writer.state()
