"""The simulated server's `/metrics` under vLLM's own names. It counts what it is told and measures nothing itself."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_1_0_0

from gateway.sim.experts import SimExpert

LABELS = ("engine", "model_name")
FINISH_REASONS = ("stop", "length", "abort", "error", "repetition")
WAIT_REASONS = ("capacity", "deferred")
SLEEP_STATES = {"awake": 1.0, "weights_offloaded": 0.0, "discard_all": 0.0}
SECONDS_BUCKETS = (
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75),
    *(1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0),
)
TOKEN_BUCKETS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000)


class EngineMetrics:
    """One expert's metrics, labelled as vLLM labels them."""

    def __init__(self, expert: SimExpert, families: Families) -> None:
        labels = ("0", expert.model)
        self.running = families.running.labels(*labels)
        self.waiting = families.waiting.labels(*labels)
        self.waiting_capacity = families.waiting_by_reason.labels(*labels, "capacity")
        self.cache_usage = families.cache_usage.labels(*labels)
        self.prompt_tokens = families.prompt_tokens.labels(*labels)
        self.generation_tokens = families.generation_tokens.labels(*labels)
        self.prefix_queries = families.prefix_queries.labels(*labels)
        families.prefix_hits.labels(*labels)
        families.preemptions.labels(*labels)
        families.waiting_by_reason.labels(*labels, "deferred")
        self.success = {reason: families.success.labels(*labels, reason) for reason in FINISH_REASONS}
        self.rejections = families.rejections.labels(*labels, "num_queued_reqs")
        self.first_token = families.first_token.labels(*labels)
        self.inter_token = families.inter_token.labels(*labels)
        self.whole = families.whole.labels(*labels)
        self.queued = families.queued.labels(*labels)
        self.request_prompt = families.request_prompt.labels(*labels)
        self.request_generation = families.request_generation.labels(*labels)
        for state, value in SLEEP_STATES.items():
            families.sleep_state.labels(*labels, state).set(value)


class Families:
    """The metric families of one server, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(f"vllm:{name}", text, (*LABELS, *labels), registry=registry)

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"vllm:{name}", text, (*LABELS, *labels), registry=registry)

        def histogram(name: str, text: str, buckets: tuple[float, ...] = SECONDS_BUCKETS) -> Histogram:
            return Histogram(f"vllm:{name}", text, LABELS, registry=registry, buckets=buckets)

        self.running = gauge("num_requests_running", "Requests being generated.")
        self.waiting = gauge("num_requests_waiting", "Requests waiting.")
        self.waiting_by_reason = gauge("num_requests_waiting_by_reason", "Requests waiting, by reason.", "reason")
        self.sleep_state = gauge("engine_sleep_state", "Sleep state of the engine.", "sleep_state")
        self.cache_usage = gauge("kv_cache_usage_perc", "Use of the KV cache, 0 to 1.")
        self.prefix_queries = counter("prefix_cache_queries", "Tokens looked up in the prefix cache.")
        self.prefix_hits = counter("prefix_cache_hits", "Tokens found in the prefix cache.")
        self.preemptions = counter("num_preemptions", "Preempted requests.")
        self.prompt_tokens = counter("prompt_tokens", "Prompt tokens processed.")
        self.generation_tokens = counter("generation_tokens", "Tokens generated.")
        self.success = counter("request_success", "Finished requests.", "finished_reason")
        self.rejections = counter("admission_rejections", "Requests refused by a queue limit.", "reason")
        self.request_prompt = histogram("request_prompt_tokens", "Prompt tokens per request.", TOKEN_BUCKETS)
        self.request_generation = histogram("request_generation_tokens", "Generated tokens per request.", TOKEN_BUCKETS)
        self.first_token = histogram("time_to_first_token_seconds", "Time to first token.")
        self.inter_token = histogram("inter_token_latency_seconds", "Time between tokens.")
        self.whole = histogram("e2e_request_latency_seconds", "Time of a whole request.")
        self.queued = histogram("request_queue_time_seconds", "Time spent waiting.")

    def exposition(self) -> tuple[bytes, str]:
        """The text of `/metrics` and its content type."""
        return generate_latest(self.registry), CONTENT_TYPE_PLAIN_1_0_0
