"""Prometheus metrics: the only module that knows prometheus_client. Labels are closed sets, never client text."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import prometheus_client as prometheus
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from gateway.cache import CacheState
from gateway.context import RouteRecord
from gateway.reliability_metrics import ReliabilityMetrics

SHORT_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)
LONG_S = (
    0.01,
    0.02,
    0.04,
    0.08,
    0.16,
    0.32,
    0.64,
    1.28,
    2.56,
    5.12,
    10.24,
    20.48,
    40.96,
    81.92,
    163.84,
    327.68,
)
SHED = frozenset({"overloaded", "too_many_open", "upstream_saturated", "too_many_connections"})
SHARES = tuple(step / 20 for step in range(1, 21))


class Metrics:
    """All series of one gateway, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self._children: dict[tuple[Any, ...], Any] = {}
        self.requests = Counter(
            "pointsman_requests",
            "Requests, by what became of them.",
            ("endpoint", "domain", "chosen", "reason", "status_class"),
            registry=registry,
        )
        self.errors = Counter(
            "pointsman_errors",
            "Requests that ended in an error, by its code.",
            ("endpoint", "code"),
            registry=registry,
        )
        self.duration = Histogram(
            "pointsman_request_seconds",
            "Whole request as the client saw it.",
            ("endpoint", "chosen"),
            buckets=LONG_S,
            registry=registry,
        )
        self.overhead = Histogram(
            "pointsman_overhead_seconds",
            "From a request's last byte to its being sent on.",
            buckets=SHORT_S,
            registry=registry,
        )
        self.classify = Histogram(
            "pointsman_classify_seconds", "Waiting for the classifier.", buckets=SHORT_S, registry=registry
        )
        self.confidence = Histogram(
            "pointsman_confidence", "Probability of the best domain.", buckets=SHARES, registry=registry
        )
        self.out_of_domain = Histogram(
            "pointsman_out_of_domain",
            "Share of ordinary prompts that are more like the training data.",
            buckets=SHARES,
            registry=registry,
        )
        self.disagreement = Histogram(
            "pointsman_disagreement",
            "How far the probabilities move without the prompt's first tokens.",
            buckets=SHARES,
            registry=registry,
        )
        self.scored = Counter(
            "pointsman_scored", "Prompts scored, by the classifier's tier that answered.", ("tier",), registry=registry
        )
        self.threshold = Gauge(
            "pointsman_threshold", "Smallest probability that is acted on.", ("domain",), registry=registry
        )
        self.excluded = Counter(
            "pointsman_excluded",
            "Routed requests for which an expert could not be chosen, by why.",
            ("expert", "reason"),
            registry=registry,
        )
        self.shadow = Counter(
            "pointsman_shadow",
            "Decisions of the shadow policy beside the live one.",
            ("decided", "shadow"),
            registry=registry,
        )
        self.first_byte = Histogram(
            "pointsman_upstream_ttft_seconds",
            "From a request's arrival to the first byte of its streamed answer.",
            ("chosen",),
            buckets=LONG_S,
            registry=registry,
        )
        self.tokens = Counter(
            "pointsman_tokens",
            "Tokens as upstreams reported them.",
            ("chosen", "direction"),
            registry=registry,
        )
        self.cost = Counter("pointsman_cost", "Money spent.", ("currency", "expert"), registry=registry)
        self.saved = Counter(
            "pointsman_saved_currency",
            "What the generalist would have cost more, of requests cheaper than it.",
            ("currency",),
            registry=registry,
        )
        self.overspent = Counter(
            "pointsman_overspent_currency",
            "What the generalist would have cost less, of requests dearer than it.",
            ("currency",),
            registry=registry,
        )
        self.cache = Counter(
            "pointsman_cache_requests",
            "Answers, by what the cache had to do with them.",
            ("outcome",),
            registry=registry,
        )
        self.cache_entries = Gauge("pointsman_cache_entries", "Answers in the cache.", registry=registry)
        self.cache_bytes = Gauge("pointsman_cache_bytes", "Memory of the cache.", registry=registry)
        self.strategies = Counter(
            "pointsman_strategy",
            "Requests with a strategy, by what became of it.",
            ("strategy", "outcome"),
            registry=registry,
        )
        self.extra_cost = Counter(
            "pointsman_strategy_extra_cost",
            "Money that strategies spent besides the answers.",
            ("strategy",),
            registry=registry,
        )
        self.reliability = ReliabilityMetrics(registry)
        self.expert_up = Gauge(
            "pointsman_expert_up",
            "1 when a server of the expert is up and has its model.",
            ("expert",),
            registry=registry,
        )
        self.adapter_loads = Counter(
            "pointsman_adapter_loads",
            "Calls to load a LoRA adapter into a server, by outcome.",
            ("outcome",),
            registry=registry,
        )
        self.retries = Counter(
            "pointsman_retries",
            "Tries after the first, by why the one before failed.",
            ("outcome",),
            registry=registry,
        )
        self.feedback = Counter(
            "pointsman_feedback",
            "Ratings stored; up is a score from 0.5.",
            ("domain", "expert", "rating"),
            registry=registry,
        )
        self.client_aborts = Counter(
            "pointsman_client_aborts",
            "Clients that left before their answer was complete.",
            registry=registry,
        )
        self.connections = Gauge("pointsman_connections", "Open connections of clients.", registry=registry)
        self.refused_connections = Counter(
            "pointsman_refused_connections",
            "Connections that were refused or cut before they brought a request, by why.",
            ("code",),
            registry=registry,
        )
        self.loop_lag = Histogram(
            "pointsman_event_loop_lag_seconds",
            "How late the event loop runs.",
            buckets=SHORT_S,
            registry=registry,
        )
        self.catalog = Gauge(
            "pointsman_config_hash_info", "1 for the configuration in use.", ("version",), registry=registry
        )
        self.reloads = Counter(
            "pointsman_config_reloads",
            "Attempts to take over a changed configuration.",
            ("outcome",),
            registry=registry,
        )
        self.last_applied = Gauge(
            "pointsman_config_last_applied_seconds",
            "When the configuration in use was taken over, in seconds since the epoch.",
            registry=registry,
        )

    def forget_configuration(self) -> None:
        """Drop the gauges of the configuration in use: a removed expert must not go on being shown as it last was."""
        for gauge in (self.expert_up, self.threshold, self.catalog):
            gauge.clear()
        self.reliability.forget_configuration()

    def watch_expert(self, name: str, usable: Callable[[], float]) -> None:
        """Read an expert's gauge when scraped, so that requests do not have to write it."""
        self.expert_up.labels(name).set_function(usable)

    def watch_cache(self, state: Callable[[], CacheState]) -> None:
        """Read the cache's gauges when scraped."""
        self.cache_entries.set_function(lambda: state().entries)
        self.cache_bytes.set_function(lambda: state().held_bytes)

    def observe(self, record: RouteRecord) -> None:
        """Count one finished request."""
        chosen, endpoint, status_class = record.chosen or "none", record.endpoint, f"{record.status // 100}xx"
        domain, reason = record.domain or "none", record.reason or "none"
        self._child(self.requests, endpoint, domain, chosen, reason, status_class).inc()
        self._child(self.duration, endpoint, chosen).observe(record.duration_s)
        if record.error is not None:
            self._child(self.errors, endpoint, record.error).inc()
            if record.error in ("client_left", "client_stalled"):
                self.client_aborts.inc()
            elif record.error in SHED:
                self._child(self.reliability.shed, record.error).inc()
        if record.resumed:
            self._child(self.reliability.resumes, "failed" if record.error else "succeeded").inc()
        if record.classify_s is not None:
            self.classify.observe(record.classify_s)
        self._observe_scores(record)
        if record.strategy is not None:
            self._child(self.strategies, record.strategy, record.strategy_outcome or "none").inc()
            if record.extra_cost:
                self._child(self.extra_cost, record.strategy).inc(record.extra_cost)
        if record.chosen is not None:
            self.overhead.observe(record.overhead_s)
            self._spend(record, record.chosen)

    def _observe_scores(self, record: RouteRecord) -> None:
        if record.confidence is not None:
            self.confidence.observe(record.confidence)
        if record.out_of_domain is not None:
            self.out_of_domain.observe(record.out_of_domain)
        if record.disagreement is not None:
            self.disagreement.observe(record.disagreement)
        if record.tier is not None:
            self._child(self.scored, record.tier or "none").inc()
        for expert, reason in record.excluded.items():
            self._child(self.excluded, expert, reason).inc()
        if record.shadow_chosen is not None and record.decided is not None:
            self._child(self.shadow, record.decided, record.shadow_chosen).inc()

    def _spend(self, record: RouteRecord, chosen: str) -> None:
        if record.stream and record.time_to_first_byte_s is not None and not record.cached:
            self._child(self.first_byte, chosen).observe(record.time_to_first_byte_s)
        if record.input_tokens:
            self._child(self.tokens, chosen, "input").inc(record.input_tokens)
        if record.output_tokens:
            self._child(self.tokens, chosen, "output").inc(record.output_tokens)
        if record.cost:
            self._child(self.cost, record.currency, chosen).inc(record.cost)
        if record.saving:
            # A counter cannot fall, so what was lost is counted by itself: the saving is the difference of the two.
            self._child(self.saved if record.saving > 0 else self.overspent, record.currency).inc(abs(record.saving))
        if record.cache is not None:
            self._child(self.cache, record.cache).inc()

    def _child(self, metric: Any, *labels: str) -> Any:
        """Return the series of these labels; `labels()` itself costs 4 us, as much as parsing a small body."""
        key = (metric, *labels)
        child = self._children.get(key)
        if child is None:
            child = self._children[key] = metric.labels(*labels)
        return child

    def exposition(self) -> tuple[bytes, str]:
        """Return the text for a scraper and its content type."""
        return prometheus.generate_latest(self.registry), prometheus.CONTENT_TYPE_LATEST
