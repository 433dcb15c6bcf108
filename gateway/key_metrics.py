"""Prometheus series of the store of keys, read when scraped. Names no key."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from gateway.keyring import KeyWatch


class KeyMetrics(Collector):
    """Shows a watch in a gateway's registry; without a store only how many keys there are.

    Args:
        registry: where it is shown.
        watch: whose.
    """

    def __init__(self, registry: CollectorRegistry, watch: KeyWatch) -> None:
        self._watch = watch
        registry.register(self)

    def collect(self) -> Iterator[Metric]:
        """Return all series as they are now."""
        watch = self._watch
        yield GaugeMetricFamily("pointsman_keys", "Callers' keys that open something now.", value=watch.keys)
        if not watch.stored:
            return
        yield GaugeMetricFamily(
            "pointsman_key_store_up", "1 when the store was readable the last time.", value=float(watch.problem is None)
        )
        yield GaugeMetricFamily(
            "pointsman_key_store_age_seconds",
            "Time since the store was last read: so old may what counts of it be.",
            value=watch.age_s,
        )
        yield CounterMetricFamily(
            "pointsman_key_store_loads", "Times that keys were loaded, as they had changed.", value=watch.loads
        )
        yield CounterMetricFamily(
            "pointsman_key_store_errors", "Times that the store could not be read or written.", value=watch.errors
        )
