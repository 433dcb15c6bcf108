"""What `experts.yaml` says of callers' keys: what each may do, and where keys made by `pointsman keys` are kept."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, field_validator, model_validator

from gateway import policies
from gateway.settings.common import VARIABLE, Name, Strict
from gateway.types import Endpoint

Tag = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.:/=-]{0,63}$")]


class KeyTerms(Strict):
    """What one caller's key may do."""

    experts: tuple[Name, ...] | None = Field(None, description="Experts it may use; left out: all.")
    policies: tuple[Name, ...] | None = Field(None, description="Policies it may ask for; left out: all.")
    policy: Name | None = Field(None, description="Its policy when a request names none.")
    endpoints: tuple[Endpoint, ...] | None = Field(
        None, description="Inference endpoints it may use (`chat`, `embeddings` ...); left out: all."
    )
    price_cap: float | None = Field(None, ge=0, description="Most that one of its requests may be expected to cost.")
    daily_budget: float | None = Field(None, ge=0, description="Most that it may spend in a day (UTC).")
    monthly_budget: float | None = Field(None, ge=0, description="Most that it may spend in a calendar month (UTC).")
    requests_per_minute: int | None = Field(None, ge=1, le=10_000_000, description="Most of its requests in a minute.")
    tokens_per_minute: int | None = Field(
        None, ge=1, le=10_000_000_000, description="Most tokens of its requests and answers in a minute."
    )
    concurrent_requests: int | None = Field(None, ge=1, le=1_000_000, description="Most of its requests at once.")
    tags: tuple[Tag, ...] = Field((), max_length=32, description="Words of your own, to tell keys apart by.")

    @model_validator(mode="after")
    def _own_policy_allowed(self) -> Self:
        if self.policy is not None and self.policies is not None and self.policy not in self.policies:
            raise ValueError(f"its own policy {self.policy!r} is not among `policies`")
        return self


class KeySettings(KeyTerms):
    """One caller's key and what it may do."""

    key_env: str = Field(pattern=VARIABLE, description="Environment variable with the key.")


class StoredTerms(KeyTerms):
    """What a key of the store may do. Unlike a file, the store outlives programs that know other policies."""

    @field_validator("policies", "policy")
    @classmethod
    def _policies_exist(cls, value: tuple[str, ...] | str | None) -> tuple[str, ...] | str | None:
        for name in (value,) if isinstance(value, str) else value or ():
            policies.policy_class(name)
        return value


class KeyStoreSettings(Strict):
    """Where keys and admin tokens made by `pointsman keys` and `pointsman admin-tokens` are kept."""

    database: str | None = Field(
        None,
        min_length=1,
        description="SQLite file with keys and admin tokens, relative to this file; with it, everybody needs a key.",
    )
    postgres_env: str | None = Field(
        None,
        pattern=VARIABLE,
        description="Environment variable with a PostgreSQL connection string, instead of a file for several gateways.",
    )

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if self.database is not None and self.postgres_env is not None:
            raise ValueError("name a database or postgres_env, not both")
        return self

    @property
    def wanted(self) -> bool:
        """Whether keys are kept at all."""
        return self.database is not None or self.postgres_env is not None
