"""Prometheus series of the records' writer, read from it when scraped: no request has to write them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from gateway.record_writer import WriterState


class RecordMetrics(Collector):
    """Shows one writer in a gateway's registry.

    Args:
        registry: where it is shown.
        state: says how the writer is doing.
    """

    def __init__(self, registry: CollectorRegistry, state: Callable[[], WriterState]) -> None:
        self._state = state
        registry.register(self)

    def collect(self) -> Iterator[Metric]:
        """Return all series as they are now."""
        state = self._state()
        yield GaugeMetricFamily("pointsman_log_queue_rows", "Requests that wait to be recorded.", value=state.queued)
        yield CounterMetricFamily("pointsman_log_rows_written", "Requests recorded.", value=state.written)
        dropped = CounterMetricFamily(
            "pointsman_log_rows_dropped", "Requests that could not be recorded, by why.", labels=("reason",)
        )
        dropped.add_metric(("queue_full",), state.dropped)
        dropped.add_metric(("refused",), state.refused)
        yield dropped
        failing = GaugeMetricFamily(
            "pointsman_log_failing", "1 while records cannot be written, by why.", labels=("reason",)
        )
        if state.failing is not None:
            failing.add_metric((state.failing,), 1)
        yield failing
