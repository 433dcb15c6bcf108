"""What `experts.yaml` may say: strict models, defaults, and the environment variables they name.

This is the only module that reads the environment. Reading the file is `settings_file`, building the catalog
`catalog`. Every field's description is the reference: it goes into the JSON Schema and must stand in
`gateway/REFERENCE.md`.
"""

from __future__ import annotations

import os
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from gateway import policies
from gateway.types import GENERALIST, Capability, Endpoint

NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$"
RESERVED_NAMES = frozenset({"auto"})
TEXT_ENDPOINTS = (Endpoint.CHAT, Endpoint.COMPLETIONS, Endpoint.RESPONSES, Endpoint.MESSAGES)

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


def _base_url(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("must be an http:// or https:// address like http://vllm-math:8000")
    if parts.username or parts.password:
        raise ValueError("must not carry credentials; name an environment variable in api_key_env")
    if parts.query or parts.fragment:
        raise ValueError("must not carry a query or fragment")
    if parts.path.rstrip("/").endswith("/v1"):
        raise ValueError("must be the server's root, without /v1")
    _ = parts.port  # raises ValueError when out of range
    return url.rstrip("/")


Name = Annotated[str, Field(pattern=NAME)]
BaseUrl = Annotated[str, AfterValidator(_base_url)]
Seconds = Annotated[float, Field(gt=0, le=86_400)]
Share = Annotated[float, Field(ge=0, le=1)]


class Strict(BaseModel):
    """Base of all models here: unknown keys and NaN are errors, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class PriceSettings(Strict):
    """What an expert costs, per million tokens, in the file's `currency`."""

    input: float = Field(ge=0, description="Price of a million prompt tokens.")
    output: float = Field(ge=0, description="Price of a million completion tokens.")


class TimeoutOverrides(Strict):
    """An expert's own limits; what is left out is the file's `timeouts`."""

    connect_s: Seconds | None = Field(None, description="Time to a TCP connection.")
    first_token_s: Seconds | None = Field(None, description="Time to the first byte of a stream.")
    idle_s: Seconds | None = Field(None, description="Longest silence inside a stream.")
    total_s: Seconds | None = Field(None, description="Time to a plain answer; the file's bounds the whole request.")


class ExpertSettings(Strict):
    """One specialised model and the servers that run it."""

    model: str = Field(min_length=1, max_length=256, description="Served model name, as vLLM lists it.")
    upstreams: tuple[BaseUrl, ...] = Field(min_length=1, description="Base addresses of its servers, without /v1.")
    domains: tuple[Name, ...] = Field((), description="Domains this expert answers; each belongs to one expert.")
    price: PriceSettings | None = Field(None, description="Prices per million tokens.")
    serves: tuple[Endpoint, ...] = Field(
        TEXT_ENDPOINTS,
        min_length=1,
        description="Endpoints its servers have; `[embeddings]` for an embedding model.",
    )
    capabilities: tuple[Capability, ...] | None = Field(
        None, description="What it can do; left out: everything text models do (no vision, audio or files)."
    )
    context_length: int | None = Field(
        None, gt=0, description="Context limit in tokens; left out: learned from the upstream's /v1/models."
    )
    api_key_env: str | None = Field(
        None, pattern=r"^[A-Z_][A-Z0-9_]*$", description="Environment variable with the key its servers want."
    )
    timeouts: TimeoutOverrides = Field(TimeoutOverrides(), description="Limits that differ from the file's.")

    @field_validator("upstreams", "domains", "serves")
    @classmethod
    def _distinct(cls, values: tuple[str, ...]) -> tuple[str, ...]:
        twice = next((value for index, value in enumerate(values) if value in values[:index]), None)
        if twice is not None:
            raise ValueError(f"{twice!r} is listed twice")
        return values


class GeneralistSettings(ExpertSettings):
    """The expert for everything no specialist should get."""

    domains: tuple[Name, ...] = Field(("general", "other"), description="Domains it answers with confidence.")


class RouterSettings(Strict):
    """The classifier."""

    artifact: str = Field("default", description="`default` (shipped) or a folder made by `pointsman train`.")
    minimum_confidence: Share | None = Field(
        None,
        description="Below this the generalist answers, in every domain; left out: each domain's fitted threshold.",
    )
    thresholds: dict[Name, Share] = Field({}, description="The same for single domains, by name.")
    minimum_margin: Share | None = Field(
        None, description="Smallest lead of the best domain over the second; left out: as fitted."
    )
    maximum_out_of_domain: Share | None = Field(
        None, description="How unlike the training data a prompt may be; 1 turns the check off; left out: as fitted."
    )
    maximum_disagreement: Share | None = Field(
        None,
        description="How far scores may move without the first tokens; 1 turns the check off; left out: as fitted.",
    )
    deadline_s: Seconds = Field(0.15, description="After this the generalist answers without a score.")
    threads: int = Field(1, ge=1, le=64, description="Threads of one classifier run.")
    batch_size: int = Field(8, ge=1, le=256, description="Most prompts in one classifier run.")
    queue_size: int = Field(256, ge=1, le=65_536, description="Prompts that may wait for the classifier.")


class PolicySettings(BaseModel):
    """The policy and its options; which options there are is the policy's own business."""

    model_config = ConfigDict(extra="allow", frozen=True, allow_inf_nan=False)
    name: Name = Field("modem", description="Which policy decides.")

    @field_validator("name")
    @classmethod
    def _known(cls, name: str) -> str:
        policies.policy_class(name)
        return name

    @model_validator(mode="after")
    def _options_fit(self) -> Self:
        policies.load(self.name, self.options)
        return self

    @property
    def options(self) -> dict[str, object]:
        """All keys but the name."""
        return dict(self.model_extra or {})


class ServerSettings(Strict):
    """Where the gateway listens and who may use it."""

    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8080, ge=0, le=65_535, description="Port to listen on; 0 takes a free one.")
    api_keys_env: str | None = Field(
        None,
        pattern=r"^[A-Z_][A-Z0-9_]*$",
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


class Settings(Strict):
    """The whole of `experts.yaml`."""

    generalist: GeneralistSettings = Field(description="Who answers when no specialist should.")
    experts: dict[Name, ExpertSettings] = Field({}, description="The specialists, by name.")
    currency: str = Field("USD", pattern=r"^[A-Z]{3}$", description="Currency of all prices (ISO 4217).")
    router: RouterSettings = Field(RouterSettings(), description="The classifier.")
    policy: PolicySettings = Field(PolicySettings(), description="The rule that decides.")
    server: ServerSettings = Field(ServerSettings(), description="Where the gateway listens.")
    timeouts: TimeoutSettings = Field(TimeoutSettings(), description="Limits in seconds.")
    limits: LimitSettings = Field(LimitSettings(), description="Bounds on requests and answers.")
    pass_through: PassThroughSettings = Field(PassThroughSettings(), description="Which other fields may pass.")
    health: HealthSettings = Field(HealthSettings(), description="Active checks.")

    @field_validator("experts")
    @classmethod
    def _names_free(cls, experts: dict[str, ExpertSettings]) -> dict[str, ExpertSettings]:
        for name in experts:
            if name in RESERVED_NAMES | {GENERALIST}:
                raise ValueError(f"{name!r} is a reserved name")
        return experts

    @field_validator("experts")
    @classmethod
    def _domains_single(cls, experts: dict[str, ExpertSettings], info: ValidationInfo) -> dict[str, ExpertSettings]:
        owner: dict[str, str] = {}
        for name, expert in experts.items():
            for domain in expert.domains:
                if domain in owner:
                    raise ValueError(f"domain {domain!r} belongs to both {owner[domain]!r} and {name!r}")
                owner[domain] = name
        return experts

    def with_address(self, host: str | None, port: int | None) -> Settings:
        """Return the same settings listening elsewhere; None keeps what the file says."""
        changes = {"host": host, "port": port}
        server = self.server.model_copy(update={k: v for k, v in changes.items() if v is not None})
        return self.model_copy(update={"server": server})

    def named_experts(self) -> dict[str, ExpertSettings]:
        """Return all experts by name, the generalist first."""
        return {GENERALIST: self.generalist, **self.experts}


class MissingSecret(ValueError):
    """A configured environment variable is not set."""


def secret(variable: str | None) -> str | None:
    """Read a secret from the environment variable a setting names.

    Raises:
        MissingSecret: the variable is unset or empty.
    """
    if variable is None:
        return None
    value = os.environ.get(variable, "").strip()
    if not value:
        raise MissingSecret(f"environment variable {variable} is not set")
    return value
