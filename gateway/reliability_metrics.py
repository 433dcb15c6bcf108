"""Prometheus series of what protects servers and gateway: breakers, queues, retries, overload. Reads, never decides."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge

from gateway.admission import Admission
from gateway.breaker import BreakerState, Why
from gateway.leases import UpstreamState
from gateway.retry_budget import RetryBudget

STATES = {BreakerState.CLOSED: 0.0, BreakerState.HALF_OPEN: 1.0, BreakerState.OPEN: 2.0}


class ReliabilityMetrics:
    """Series in a gateway's registry.

    Args:
        registry: where they are shown.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self.inflight = Gauge(
            "pointsman_upstream_inflight", "Requests open at an upstream.", ("upstream",), registry=registry
        )
        self.up = Gauge(
            "pointsman_upstream_up", "1 when the upstream takes requests.", ("upstream",), registry=registry
        )
        self.waiting = Gauge(
            "pointsman_upstream_waiting", "Requests that wait for a place there.", ("upstream",), registry=registry
        )
        self.breaker = Gauge(
            "pointsman_breaker_state", "0 closed, 1 half open, 2 open.", ("upstream",), registry=registry
        )
        self.ejections = Counter(
            "pointsman_ejections", "Breakers that opened, by why.", ("upstream", "why"), registry=registry
        )
        self.shed = Counter("pointsman_shed", "Requests refused to keep others fast.", ("reason",), registry=registry)
        self.exhausted = Counter(
            "pointsman_retry_budget_exhausted",
            "Requests whose further try the retry budget did not allow.",
            registry=registry,
        )
        self.forbidden = Counter(
            "pointsman_upstream_forbidden",
            "Connections that were not opened because no upstream may be at the address.",
            registry=registry,
        )
        self.resumes = Counter(
            "pointsman_resumes",
            "Streams that broke and were to go on at another server, by outcome.",
            ("outcome",),
            registry=registry,
        )
        self.retrying = Gauge("pointsman_retries_running", "Requests at a further try.", registry=registry)
        self.inside = Gauge("pointsman_requests_running", "Requests inside the gateway.", registry=registry)
        self.admission_limit = Gauge(
            "pointsman_admission_limit", "Requests that may be inside at the moment.", registry=registry
        )

    def watch_process(self, admission: Admission, budget: RetryBudget) -> None:
        """Read what belongs to the process when scraped."""
        self.retrying.set_function(lambda: budget.retries)
        self.inside.set_function(lambda: admission.inside)
        self.admission_limit.set_function(lambda: admission.limit)

    def watch_upstream(self, state: UpstreamState) -> None:
        """Read a server's gauges when scraped, so that requests do not have to write them."""
        self.inflight.labels(state.url).set_function(lambda: state.inflight)
        self.up.labels(state.url).set_function(lambda: state.up)
        self.waiting.labels(state.url).set_function(lambda: state.limiter.waiting)
        self.breaker.labels(state.url).set_function(lambda: STATES[state.breaker.state])

    def ejected(self, url: str, why: Why) -> None:
        """Count one ejection."""
        self.ejections.labels(url, why.value).inc()

    def forget_configuration(self) -> None:
        """Drop the gauges of servers: a removed one must not go on being shown as it last was."""
        for gauge in (self.inflight, self.up, self.waiting, self.breaker):
            gauge.clear()
