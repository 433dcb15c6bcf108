"""What `experts.yaml` says of prompts that are kept for people to label. None is kept unless asked for."""

from __future__ import annotations

from pydantic import Field

from gateway.settings.common import Strict


class PromptSettings(Strict):
    """Some routed prompts, in a file or a table of their own; only administrators may read them."""

    enabled: bool = Field(
        False, description="Keep some prompts, for administrators to look at and label; off: none is kept."
    )
    share: float = Field(0.01, ge=0, le=1, description="Share of routed prompts kept by chance; 0: none.")
    low_margin: float = Field(
        0.2, ge=0, le=1, description="Keep those whose two best domains are nearer to each other than this; 0: none."
    )
    out_of_domain: bool = Field(True, description="Keep those that are too unlike the training data.")
    thumbs_down: bool = Field(
        True, description="Keep those whose answer a caller rates below 0.5; needs `feedback.database`."
    )
    per_minute: int = Field(
        60, ge=1, le=6_000, description="Most prompts kept in a minute for each of these four reasons, by process."
    )
    never: tuple[str, ...] = Field((), description="Names of keys whose prompts are never kept.")
    longest_characters: int = Field(
        3_000,
        ge=100,
        le=10_000,
        description="Longest text kept; the rest is cut off. It is the text that was classified.",
    )
    remember: int = Field(
        1_000,
        ge=1,
        le=20_000,
        description="How many of the last prompts can be kept when a bad rating comes; in memory, by process.",
    )
    keep_days: int = Field(3, ge=1, le=365, description="How long prompts are kept that nobody labels.")
    keep_labelled_days: int = Field(90, ge=1, le=3_650, description="How long labelled prompts are kept.")
    most_rows: int = Field(
        20_000, ge=100, le=200_000, description="Most prompts kept; the oldest that nobody labelled go first."
    )
    most_megabytes: float = Field(
        100, gt=0, le=10_000, description="Most text of kept prompts; the oldest that nobody labelled go first."
    )
