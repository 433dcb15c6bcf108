"""Prometheus series of limits, read when scraped: no request has to write them."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from gateway.limits.limits import Limits


class LimitMetrics(Collector):
    """Shows limits in a gateway's registry.

    Args:
        registry: where they are shown.
        limits: whose.
    """

    def __init__(self, registry: CollectorRegistry, limits: Limits) -> None:
        self._limits = limits
        registry.register(self)

    def collect(self) -> Iterator[Metric]:
        """Return all series as they are now."""
        counts, wire = self._limits.counts, None if self._limits.valkey is None else self._limits.valkey.wire
        refused = CounterMetricFamily(
            "pointsman_limit_refusals", "Requests over a limit, by whose and which.", labels=("owner", "limit")
        )
        for told, count in counts.refused.items():
            refused.add_metric(told, count)
        yield refused
        yield GaugeMetricFamily(
            "pointsman_limit_accounts", "Keys and experts with something to remember.", value=len(self._limits.accounts)
        )
        yield CounterMetricFamily(
            "pointsman_limit_expired",
            "Requests that never ended, counted as ended after a while.",
            value=self._limits.accounts.expired,
        )
        if wire is None:
            return
        yield GaugeMetricFamily("pointsman_valkey_up", "1 while the server is asked.", value=float(wire.up))
        yield CounterMetricFamily(
            "pointsman_valkey_failures", "Times the server did not answer in time or refused.", value=wire.failures
        )
        yield CounterMetricFamily(
            "pointsman_valkey_local", "Requests with a limit admitted without the server.", value=counts.local
        )
        yield CounterMetricFamily(
            "pointsman_valkey_unavailable", "Requests refused because the server was down.", value=counts.unavailable
        )
        yield CounterMetricFamily(
            "pointsman_valkey_settlements_dropped", "Settlements that never reached the server.", value=wire.dropped
        )
