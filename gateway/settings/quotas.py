"""What `experts.yaml` says of quotas: how much keys and experts may use, and where that is counted."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from gateway.settings.common import NAME, VARIABLE, Name, Seconds, Share, Strict


class QuotaTerms(Strict):
    """How much may be used; what is left out is not limited."""

    requests_per_minute: int | None = Field(None, ge=1, le=10_000_000, description="Most requests in a minute.")
    tokens_per_minute: int | None = Field(
        None, ge=1, le=10_000_000_000, description="Most tokens of requests and answers in a minute."
    )
    concurrent_requests: int | None = Field(None, ge=1, le=1_000_000, description="Most requests at once.")
    daily_budget: float | None = Field(None, ge=0, le=1e9, description="Most that may be spent in a day (UTC).")
    monthly_budget: float | None = Field(
        None, ge=0, le=1e9, description="Most that may be spent in a calendar month (UTC)."
    )


class ValkeySettings(Strict):
    """A Valkey or Redis server that counts for several gateways together."""

    url_env: str = Field(
        pattern=VARIABLE,
        description="Environment variable with its address, like `rediss://user:password@host:6379/0`.",
    )
    cluster: bool = Field(False, description="It is a cluster; the address is one of its nodes.")
    prefix: str = Field(
        "pointsman", pattern=NAME, description="Beginning of its keys; gateways that share one count together."
    )
    timeout_s: float = Field(
        0.003,
        gt=0,
        le=5,
        description="Longest wait for its answer; after one that took longer it is left alone for a second.",
    )
    when_down: Literal["local", "refuse"] = Field(
        "local",
        description="While it does not answer: `local` goes on with this process's own counts, `refuse` refuses "
        "requests that have a limit.",
    )
    connect_s: Seconds = Field(1.0, description="Longest wait for a connection; no request waits for that.")


class QuotaSettings(Strict):
    """Limits by key and by expert; a key's own (`keys.NAME`) go before those here."""

    default: QuotaTerms = Field(QuotaTerms(), description="What a key may use that does not say so itself.")
    experts: dict[Name, QuotaTerms] = Field({}, description="What all keys together may use of an expert.")
    downgrade_at: Share | None = Field(
        None,
        description="Share of a key's budget after which routed requests go to the cheapest expert that can take them; "
        "left out: never.",
    )
    database: str | None = Field(
        None,
        min_length=1,
        description="SQLite file for what keys and experts have spent, relative to this file; without it and without "
        "Valkey a restart forgets that.",
    )
    valkey: ValkeySettings | None = Field(None, description="Counts for several gateways together.")

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if self.database is not None and self.valkey is not None:
            raise ValueError("name a database or valkey, not both")
        return self
