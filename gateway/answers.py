"""What an upstream answered, ready to be sent on: plain answers whole, streams with first bytes. Sends nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from gateway.errors import PointsmanError


@dataclass(slots=True)
class Usage:
    """Token counts as the upstream reported them."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None


class Stream(Protocol):
    """The rest of a stream."""

    async def read_chunk(self) -> bytes:
        """Return what has arrived, waiting for at least one byte; empty at the end.

        Raises:
            UpstreamError: it broke.
        """
        ...


class Held(Protocol):
    """What an answer keeps open."""

    def close(self) -> None:
        """Let go of it; a second call does nothing."""
        ...

    def ended(self, error: PointsmanError | None) -> None:
        """Say how a stream ended, None: well; then let go of it."""
        ...


@dataclass(slots=True)
class Opened:
    """An answer ready to be sent on.

    Attributes:
        status: upstream's status.
        content_type: upstream's content type.
        first: the whole body, or a stream's first bytes.
        lease: the open request at the upstream; close it when the answer has been sent.
        stream: the rest of the stream; None for a plain answer.
        retry_after: upstream's `retry-after`, for an error that is passed through.
        usage: what the answer cost, when that is not what it says itself.
    """

    status: int
    content_type: str
    first: bytes
    lease: Held
    stream: Stream | None = None
    retry_after: str | None = None
    usage: Usage | None = None
