"""What `experts.yaml` says of feedback: callers' ratings of answers."""

from __future__ import annotations

from pydantic import Field

from gateway.settings.common import Strict


class FeedbackSettings(Strict):
    """Callers' ratings of answers; nothing is taken until `database` is set."""

    database: str | None = Field(
        None,
        min_length=1,
        description="SQLite file for callers' ratings, relative to this file; left out: `/v1/feedback` is off.",
    )
    per_minute: int = Field(30, ge=1, le=1_000_000, description="Most ratings by one key in a minute.")
    keep: int = Field(1_000_000, ge=1, description="Most ratings stored; the oldest go first.")
    remember: int = Field(
        10_000, ge=1, le=1_000_000, description="How many of the last answers can be rated; in memory, by process."
    )
    comments: bool = Field(True, description="Store callers' comments, which are their own words.")
