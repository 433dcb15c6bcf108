"""What `experts.yaml` says of records: where finished requests are kept, and how long."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from gateway.settings.common import VARIABLE, Strict
from gateway.settings.prompts import PromptSettings


class RecordSettings(Strict):
    """One row for every request; nothing is kept until `database` or `postgres_env` is set."""

    database: str | None = Field(
        None, min_length=1, description="SQLite file for records, relative to this file; for one gateway."
    )
    postgres_env: str | None = Field(
        None,
        pattern=VARIABLE,
        description="Environment variable with a PostgreSQL connection string, instead of a file for several gateways.",
    )
    keep_days: int = Field(14, ge=1, le=3_650, description="How long requests are kept.")
    keep_minutes_days: int = Field(90, ge=1, le=3_650, description="How long sums by the minute are kept.")
    keep_hours_days: int = Field(
        730, ge=1, le=36_500, description="How long sums by the hour and by the day are kept, and events."
    )
    max_gigabytes: float | None = Field(
        20,
        gt=0,
        le=1_000_000,
        description="Most space for all of it; beyond, the oldest requests go first; `null`: any.",
    )
    queue_rows: int = Field(
        10_000, ge=500, le=1_000_000, description="Most requests waiting to be written, by process; more are dropped."
    )
    prompts: PromptSettings = Field(PromptSettings(), description="Prompts kept for people to label.")

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if self.database is not None and self.postgres_env is not None:
            raise ValueError("name a database or postgres_env, not both")
        if self.prompts.enabled and not self.wanted:
            raise ValueError("prompts can only be kept where records are: set database or postgres_env")
        return self

    @property
    def wanted(self) -> bool:
        """Whether records are kept at all."""
        return self.database is not None or self.postgres_env is not None
