"""What `experts.yaml` says of serving: where to listen, who may come, limits of time and size."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from gateway.settings.common import VARIABLE, Network, Seconds, Strict

HOST = r"^(\*|(\*\.)?[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*)$"

# OPERATIONS 6.2: fields that let a client run templates on the server, reach other hosts, get before others in its
# queue (`priority`), go on running without us (`background`), take another request's id, or meddle with the engine; and
# vLLM's removed guided_* fields, which it ignores in silence, so the answer would not be constrained.
DENIED_FIELDS = (
    "api_base",
    "background",
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
    "mm_payload",
    "mm_processor_kwargs",
    "priority",
    "prompt_embeds",
    "request_id",
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
    hosts: tuple[Annotated[str, Field(pattern=HOST)], ...] | None = Field(
        None,
        description="Names in the Host header that are answered, `*.example.com` for all below one and `*` for any; "
        "addresses and `localhost` always are. Left out: any name, but on loopback without keys none, because a page "
        "of a foreign site could give its own name our address (DNS rebinding).",
    )
    connections: int = Field(
        10_000,
        ge=1,
        description="Most clients' connections at once in one process, as far as the process may open files. At the "
        "cap the one that has waited longest for a request is closed.",
    )
    decision_headers: Literal["all", "expert", "none"] = Field(
        "all",
        description="Which `x-pointsman-*` headers clients see: `expert` keeps the expert's name only, because "
        "scores help those who craft prompts to steer the routing.",
    )
    drain_grace_s: float = Field(
        5,
        ge=0,
        le=86_400,
        description="How long connections are still taken after SIGTERM, while load balancers learn of it.",
    )
    drain_s: Seconds = Field(30, description="How long running requests may go on after that.")
    denied_networks: tuple[Network, ...] = Field(
        (),
        description="Networks (`10.0.0.0/8`) where no upstream is connected to, whatever its name means by then. "
        "Link-local addresses and those of clouds' credentials never are, see `admin.allow_link_local`.",
    )
    workers: int = Field(1, ge=1, le=64, description="Processes that serve; each has its own classifier.")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least severity logged.")
    log_requests: bool = Field(True, description="One JSON line per request on standard error.")


class TimeoutSettings(Strict):
    """Limits in seconds; none is infinite."""

    connect_s: Seconds = Field(2, description="Time to a TCP connection to an upstream.")
    first_token_s: Seconds = Field(60, description="Time from sending a request to the first byte of its stream.")
    idle_s: Seconds = Field(30, description="Longest silence inside a stream.")
    total_s: Seconds = Field(600, description="Whole request, retries included; the limit of plain answers.")
    client_write_s: Seconds = Field(30, description="Longest time a client may refuse to read.")
    keep_alive_s: Seconds = Field(
        75,
        description="Longest silence of a client's connection between requests: longer than that of the load balancer "
        "in front, or it answers 502 now and then.",
    )
    head_read_s: Seconds = Field(10, description="Time for a request's head to arrive.")
    body_read_s: Seconds = Field(30, description="Time for the request body to arrive.")
    body_pause_s: Seconds = Field(10, description="Time for each kilobyte of it; a slower body is cut then.")
    health_s: Seconds = Field(2, description="Answer to a health probe.")


class LimitSettings(Strict):
    """Bounds on what a request may be or ask for."""

    body_bytes: int = Field(16 * 2**20, ge=1_024, description="Largest request body.")
    messages: int = Field(4_096, ge=1, description="Most messages in a conversation.")
    parts: int = Field(
        8_192, ge=1, description="Most parts of all messages together: of content, tool calls and tools' results."
    )
    inputs: int = Field(2_048, ge=1, description="Most prompts or texts in one completions or embeddings request.")
    n: int = Field(16, ge=1, description="Most answers per prompt (`n`, `best_of`).")
    max_tokens: int = Field(131_072, ge=1, description="Largest `max_tokens` and its synonyms.")
    logprobs: int = Field(20, ge=0, description="Most log-probabilities per token.")
    answers: int = Field(256, ge=1, description="Most answers to one request: its prompts times `n`.")
    answer_tokens: int = Field(
        524_288, ge=1, description="Most tokens that they may have together: answers times `max_tokens`."
    )
    tools: int = Field(128, ge=0, description="Most tools in a request.")
    schema_bytes: int = Field(
        65_536, ge=64, description="Largest tool, JSON schema or grammar, which the server compiles."
    )
    pattern_characters: int = Field(
        1_000, ge=1, description="Longest regular expression, in a schema or alone; it may repeat up to 1,000 times."
    )
    stops: int = Field(16, ge=0, description="Most stop strings, of 256 characters at most.")
    list_entries: int = Field(
        1_024, ge=0, description="Most entries of `logit_bias`, `bad_words`, `allowed_token_ids` and the like."
    )
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
