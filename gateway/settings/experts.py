"""What `experts.yaml` says of one expert: model, servers, price, capabilities."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field, field_validator

from gateway.language import LANGUAGES
from gateway.settings.common import VARIABLE, BaseUrl, Name, Seconds, Strict
from gateway.types import Capability, Endpoint

TEXT_ENDPOINTS = (Endpoint.CHAT, Endpoint.COMPLETIONS, Endpoint.RESPONSES, Endpoint.MESSAGES)


def _language(code: str) -> str:
    if code not in LANGUAGES:
        raise ValueError("must be a two-letter ISO 639-1 code in lower case, like en or zh")
    return code


Language = Annotated[str, AfterValidator(_language)]


class PriceSettings(Strict):
    """What an expert costs, per million tokens, in the file's `currency`."""

    input: float = Field(ge=0, description="Price of a million prompt tokens.")
    output: float = Field(ge=0, description="Price of a million completion tokens.")
    cached_input: float | None = Field(
        None, ge=0, description="Price of a million prompt tokens that the server had cached; left out: as `input`."
    )


class TimeoutOverrides(Strict):
    """An expert's own limits; what is left out is the file's `timeouts`."""

    connect_s: Seconds | None = Field(None, description="Time to a TCP connection.")
    first_token_s: Seconds | None = Field(None, description="Time to the first byte of a stream.")
    idle_s: Seconds | None = Field(None, description="Longest silence inside a stream.")
    total_s: Seconds | None = Field(None, description="Time to a plain answer; the file's bounds the whole request.")


class AdapterSettings(Strict):
    """The LoRA adapter that makes an expert of a base model."""

    path: str = Field(min_length=1, max_length=1_024, description="Where its servers find the adapter.")
    load: bool = Field(
        True,
        description="Load it into servers that do not list the expert's model; they must allow that "
        "(`VLLM_ALLOW_RUNTIME_LORA_UPDATING=1`).",
    )


class RewriteSettings(Strict):
    """What an expert's routed chat requests get besides the client's own words; the record says so."""

    system: str | None = Field(None, max_length=65_536, description="Instructions before those of the client.")
    prefix: str | None = Field(None, max_length=65_536, description="Text before the last user message's.")
    suffix: str | None = Field(None, max_length=65_536, description="Text behind the last user message's.")


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
    languages: tuple[Language, ...] = Field(
        (), description="ISO 639-1 codes of the languages it speaks, like `[en, zh]`; left out: all."
    )
    adapter: AdapterSettings | None = Field(None, description="Its LoRA adapter, when it is one.")
    rewrite: RewriteSettings = Field(RewriteSettings(), description="What is added to the client's own words.")
    api_key_env: str | None = Field(
        None, pattern=VARIABLE, description="Environment variable with the key its servers want."
    )
    timeouts: TimeoutOverrides = Field(TimeoutOverrides(), description="Limits that differ from the file's.")

    max_open: int | None = Field(
        None, ge=1, le=1_000_000, description="Most requests open at one of its servers, if not `concurrency.requests`."
    )

    @field_validator("upstreams", "domains", "serves", "languages")
    @classmethod
    def _distinct(cls, values: tuple[str, ...]) -> tuple[str, ...]:
        twice = next((value for index, value in enumerate(values) if value in values[:index]), None)
        if twice is not None:
            raise ValueError(f"{twice!r} is listed twice")
        return values


class GeneralistSettings(ExpertSettings):
    """The expert for everything no specialist should get."""

    domains: tuple[Name, ...] = Field(("general", "other"), description="Domains it answers with confidence.")
