"""The simulated server's `/metrics` under vLLM's own names. It counts what it is told and measures nothing itself.

Counts are plain numbers and become Prometheus families only at a scrape: twelve updates of library objects per
request cost 12 us, a fifth of a whole simulated answer.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_1_0_0
from prometheus_client.registry import Collector

from gateway.sim.plans import now_s

if TYPE_CHECKING:
    from gateway.sim.engine import Engine

LABELS = ("engine", "model_name")
FINISH_REASONS = ("stop", "length", "abort", "error", "repetition")
SLEEP_STATES = {"awake": 1.0, "weights_offloaded": 0.0, "discard_all": 0.0}
SECONDS_BUCKETS = (
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75),
    *(1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0),
)
TOKEN_BUCKETS = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0, 5000.0, 10_000.0)

Family = GaugeMetricFamily | CounterMetricFamily | HistogramMetricFamily


class Distribution:
    """A histogram's counts."""

    def __init__(self, bounds: tuple[float, ...] = SECONDS_BUCKETS) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        """Count one value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    def buckets(self) -> list[tuple[str, float]]:
        """Cumulative counts by upper bound."""
        total, shown = 0, []
        for bound, count in zip([*map(str, self.bounds), "+Inf"], self.counts, strict=True):
            total += count
            shown.append((bound, float(total)))
        return shown


class Tallies:
    """What one expert's engine counts."""

    def __init__(self) -> None:
        self.prompt_tokens = 0
        self.generation_tokens = 0
        self.rejections = 0
        self.finished: Counter[str] = Counter()
        self.first_token = Distribution()
        self.whole = Distribution()
        self.queued = Distribution()
        self.request_prompt = Distribution(TOKEN_BUCKETS)
        self.request_generation = Distribution(TOKEN_BUCKETS)


class EngineCollector(Collector):
    """Reads the engines of one server at each scrape."""

    def __init__(self, engines: Sequence[Engine]) -> None:
        self._engines = engines
        self._started_s = now_s()

    def collect(self) -> Iterator[Family]:
        """All families, one after the other."""
        yield from self._gauges()
        yield from self._counters()
        yield from self._histograms()

    def _gauges(self) -> Iterator[Family]:
        gauges: dict[str, tuple[str, Callable[[Engine], float]]] = {
            "num_requests_running": ("Requests being generated.", lambda engine: engine.running),
            "num_requests_waiting": ("Requests waiting.", lambda engine: len(engine.waiting)),
            "kv_cache_usage_perc": ("Use of the KV cache, 0 to 1.", lambda engine: engine.cache_usage),
        }
        for name, (text, value) in gauges.items():
            family = GaugeMetricFamily(f"vllm:{name}", text, labels=LABELS)
            for engine in self._engines:
                family.add_metric(_labels(engine), value(engine))
            yield family
        reasons = GaugeMetricFamily(
            "vllm:num_requests_waiting_by_reason", "Requests waiting, by reason.", labels=(*LABELS, "reason")
        )
        states = GaugeMetricFamily(
            "vllm:engine_sleep_state", "Sleep state of the engine.", labels=(*LABELS, "sleep_state")
        )
        for engine in self._engines:
            reasons.add_metric([*_labels(engine), "capacity"], len(engine.waiting))
            reasons.add_metric([*_labels(engine), "deferred"], 0)
            for state, value_of_state in SLEEP_STATES.items():
                states.add_metric([*_labels(engine), state], value_of_state)
        yield from (reasons, states)

    def _counters(self) -> Iterator[Family]:
        counters: dict[str, tuple[str, Callable[[Tallies], float]]] = {
            "prefix_cache_queries": ("Tokens looked up in the prefix cache.", lambda tally: tally.prompt_tokens),
            "prefix_cache_hits": ("Tokens found in the prefix cache.", lambda tally: 0),
            "num_preemptions": ("Preempted requests.", lambda tally: 0),
            "prompt_tokens": ("Prompt tokens processed.", lambda tally: tally.prompt_tokens),
            "prompt_tokens_cached": ("Prompt tokens found in a cache.", lambda tally: 0),
            "generation_tokens": ("Tokens generated.", lambda tally: tally.generation_tokens),
        }
        for name, (text, value) in counters.items():
            family = CounterMetricFamily(f"vllm:{name}", text, labels=LABELS)
            for engine in self._engines:
                family.add_metric(_labels(engine), value(engine.tallies), created=self._started_s)
            yield family
        finished = CounterMetricFamily(
            "vllm:request_success", "Finished requests.", labels=("engine", "finished_reason", "model_name")
        )
        rejected = CounterMetricFamily(
            "vllm:admission_rejections", "Requests refused by a queue limit.", labels=(*LABELS, "reason")
        )
        for engine in self._engines:
            number, model = _labels(engine)
            for reason in FINISH_REASONS:
                count = engine.tallies.finished[reason]
                finished.add_metric([number, reason, model], count, created=self._started_s)
            if engine.tallies.rejections:
                rejected.add_metric([number, model, "num_queued_reqs"], engine.tallies.rejections)
        yield from (finished, rejected)

    def _histograms(self) -> Iterator[Family]:
        histograms: dict[str, tuple[str, Callable[[Tallies], Distribution]]] = {
            "time_to_first_token_seconds": ("Time to first token.", lambda tally: tally.first_token),
            "e2e_request_latency_seconds": ("Time of a whole request.", lambda tally: tally.whole),
            "request_queue_time_seconds": ("Time spent waiting.", lambda tally: tally.queued),
            "request_prompt_tokens": ("Prompt tokens per request.", lambda tally: tally.request_prompt),
            "request_generation_tokens": ("Tokens per choice.", lambda tally: tally.request_generation),
        }
        for name, (text, part) in histograms.items():
            family = HistogramMetricFamily(f"vllm:{name}", text, labels=LABELS)
            for engine in self._engines:
                distribution = part(engine.tallies)
                family.add_metric(_labels(engine), distribution.buckets(), distribution.sum)
            yield family


def _labels(engine: Engine) -> list[str]:
    return ["0", engine.expert.model]


def exposition(engines: Sequence[Engine]) -> tuple[bytes, str]:
    """The text of `/metrics` and its content type."""
    registry = CollectorRegistry()
    registry.register(EngineCollector(engines))
    return generate_latest(registry), CONTENT_TYPE_PLAIN_1_0_0
