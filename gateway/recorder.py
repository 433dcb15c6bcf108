"""Ends every request the same way: one record, one metric update, one log line. Never fails the request."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from gateway.context import RequestContext, RouteRecord
from gateway.finishing import record_of
from gateway.logs import RequestLog
from gateway.metrics import Metrics

Observer = Callable[[RequestContext, RouteRecord], None]


class Recorder:
    """Takes finished requests.

    Args:
        metrics: where they are counted.
        log_requests: write the log line too.
        observers: told of every finished request, on the event loop; they must be quick and must not raise.
    """

    def __init__(self, metrics: Metrics, *, log_requests: bool, observers: Sequence[Observer] = ()) -> None:
        self._metrics = metrics
        self.observers = tuple(observers)
        self._log = RequestLog() if log_requests else None

    def log_lines(self, *, wanted: bool) -> None:
        """Write log lines from now on, or write none."""
        self._log = RequestLog() if wanted else None

    def put(self, context: RequestContext) -> None:
        """Record one finished request. Called exactly once for each, refused ones too."""
        record = record_of(context)
        self._metrics.observe(record)
        for observe in self.observers:
            observe(context, record)
        if self._log is not None:
            self._log.write(record)
