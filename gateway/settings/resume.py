"""What `experts.yaml` says of streams that break in the middle. Resumes nothing."""

from __future__ import annotations

from pydantic import Field

from gateway.settings.common import Strict


class ResumeSettings(Strict):
    """Whether another server of the same expert goes on with an answer whose stream broke."""

    enabled: bool = Field(False, description="Whether chat streams that break are resumed; else they end in an error.")
    text_characters: int = Field(
        200_000, ge=1, le=10_000_000, description="Longest beginning of an answer that is kept to be resumed."
    )
