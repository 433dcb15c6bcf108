"""What `experts.yaml` says of serving: where to listen, who may come, limits of time and size."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from gateway.settings.common import VARIABLE, Seconds, Strict

# OPERATIONS 6.2: fields that let a client run templates on the server, reach other hosts, or meddle with the
# engine; and vLLM's removed guided_* fields, which it ignores in silence, so the answer would not be constrained.
DENIED_FIELDS = (
    "api_base",
    "base_url",
    "chat_template",
    "documents",
    "ec_transfer_params",
    "guided_choice",
    "guided_decoding_backend",
    "guided_grammar",
    "guided_json",
    "guided_regex",
    "guided_whitespace_pattern",
    "kv_transfer_params",
    "media_io_kwargs",
    "mm_processor_kwargs",
    "prompt_embeds",
    "user_config",
    "vllm_xargs",
)


class ServerSettings(Strict):
    """Where the gateway listens and who may use it."""

    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8080, ge=0, le=65_535, description="Port to listen on; 0 takes a free one.")
    api_keys_env: str | None = Field(
        None,
        pattern=VARIABLE,
        description="Environment variable with the clients' keys, comma-separated. Without it everybody may "
        "use the gateway, which is refused on an address other than loopback unless `open` is set.",
    )
    open: bool = Field(False, description="Allow clients without keys on any address.")
    decision_headers: Literal["all", "expert", "none"] = Field(
        "all",
        description="Which `x-pointsman-*` headers clients see: `expert` keeps the expert's name only, because "
        "scores help those who craft prompts to steer the routing.",
    )
    drain_s: Seconds = Field(30, description="How long running requests may go on after SIGTERM.")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least severity logged.")
    log_requests: bool = Field(True, description="One JSON line per request on standard error.")


class TimeoutSettings(Strict):
    """Limits in seconds; none is infinite."""

    connect_s: Seconds = Field(2, description="Time to a TCP connection to an upstream.")
    first_token_s: Seconds = Field(60, description="Time from sending a request to the first byte of its stream.")
    idle_s: Seconds = Field(30, description="Longest silence inside a stream.")
    total_s: Seconds = Field(600, description="Whole request, retries included; the limit of plain answers.")
    client_write_s: Seconds = Field(30, description="Longest time a client may refuse to read.")
    body_read_s: Seconds = Field(30, description="Time for the request body to arrive.")
    health_s: Seconds = Field(2, description="Answer to a health probe.")


class LimitSettings(Strict):
    """Bounds on what a request may be or ask for."""

    body_bytes: int = Field(16 * 2**20, ge=1_024, description="Largest request body.")
    messages: int = Field(4_096, ge=1, description="Most messages in a conversation.")
    inputs: int = Field(2_048, ge=1, description="Most prompts or texts in one completions or embeddings request.")
    n: int = Field(16, ge=1, description="Most answers per prompt (`n`, `best_of`).")
    max_tokens: int = Field(131_072, ge=1, description="Largest `max_tokens` and its synonyms.")
    logprobs: int = Field(20, ge=0, description="Most log-probabilities per token.")
    response_bytes: int = Field(64 * 2**20, ge=1_024, description="Largest plain answer of an upstream.")
    event_bytes: int = Field(4 * 2**20, ge=1_024, description="Longest single event of an upstream's stream.")


class PassThroughSettings(Strict):
    """Request fields beyond those the gateway reads: all go through but the denied ones."""

    denied: tuple[str, ...] = Field(DENIED_FIELDS, description="Body fields that are refused with 400.")
    chat_template_kwargs: tuple[str, ...] = Field(
        ("enable_thinking", "thinking", "thinking_budget", "reasoning_effort"),
        description="Keys that `chat_template_kwargs` may have.",
    )


class HealthSettings(Strict):
    """Active checks of the upstreams."""

    interval_s: Seconds = Field(5, description="Time between two probes of one upstream.")
    failures: int = Field(2, ge=1, description="Failed probes or connections in a row until it counts as down.")
