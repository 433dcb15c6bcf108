"""Ends every request the same way: one record, one metric update, one log line. Never fails the request."""

from __future__ import annotations

from gateway.context import RequestContext, record_of
from gateway.logs import RequestLog
from gateway.metrics import Metrics


class Recorder:
    """Takes finished requests.

    Args:
        metrics: where they are counted.
        log_requests: write the log line too.
    """

    def __init__(self, metrics: Metrics, *, log_requests: bool) -> None:
        self._metrics = metrics
        self._log = RequestLog() if log_requests else None

    def put(self, context: RequestContext) -> None:
        """Record one finished request. Called exactly once for each, refused ones too."""
        record = record_of(context)
        self._metrics.observe(record)
        if self._log is not None:
            self._log.write(record)
