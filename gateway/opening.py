"""Holds a stream's beginning back until it has content, so that until then another expert can still answer instead.

Engines write a preamble (the role, `message_start`, `response.created`) before they know whether they can generate,
and a dying one puts an error object right behind it. Bytes are kept as they came; nothing here reads or sends.
"""

from __future__ import annotations

from typing import Any

from gateway.errors import UpstreamBadResponse, UpstreamBroke
from gateway.sse import EVENT_END, LONGEST_END_BYTES, payload_of
from gateway.types import Endpoint

_PREAMBLE: dict[Endpoint, frozenset[str]] = {
    Endpoint.MESSAGES: frozenset({"message_start", "content_block_start", "ping"}),
    Endpoint.RESPONSES: frozenset(
        {
            "response.created",
            "response.queued",
            "response.in_progress",
            "response.output_item.added",
            "response.content_part.added",
            "response.reasoning_part.added",
            "response.reasoning_summary_part.added",
        }
    ),
}


class Opening:
    """Follows one stream up to its first content.

    Args:
        endpoint: whose stream it is.
        limit_bytes: longest beginning that is held.

    Attributes:
        begun: there is content, or something that nobody here understands: it is the client's from then on.
    """

    def __init__(self, endpoint: Endpoint, limit_bytes: int) -> None:
        self._endpoint = endpoint
        self._limit_bytes = limit_bytes
        self._read = 0
        self._held = bytearray()
        self.begun = False

    @property
    def held(self) -> bytes:
        """All bytes so far, to be sent as they are."""
        return bytes(self._held)

    def feed(self, chunk: bytes) -> bool:
        """Take what arrived and return `begun`.

        Raises:
            UpstreamBroke: an error object before any content.
            UpstreamBadResponse: no content within `limit_bytes`.
        """
        # What was looked through before need not be again.
        at = max(self._read, len(self._held) - LONGEST_END_BYTES + 1)
        self._held += chunk
        while not self.begun and (end := EVENT_END.search(self._held, at)):
            event, at = bytes(self._held[self._read : end.end()]), end.end()
            self._read = at
            self.begun = self._is_content(event)
        if not self.begun and len(self._held) > self._limit_bytes:
            raise UpstreamBadResponse("The expert's stream has too much before its first token.")
        return self.begun

    def _is_content(self, event: bytes) -> bool:
        payload = payload_of(event)
        if payload is None:
            # Comments keep connections alive; all else that is no object ends a stream or is malformed.
            return b"data" in event
        _check_error(payload)
        preamble = _PREAMBLE.get(self._endpoint)
        if preamble is not None:
            return payload.get("type") not in preamble
        choices = payload.get("choices")
        return not isinstance(choices, list) or any(_has_content(choice) for choice in choices)


def _has_content(choice: Any) -> bool:
    """Tell whether a choice of a chunk has more than the role; whatever a delta may hold besides, counts."""
    if not isinstance(choice, dict) or choice.get("finish_reason") or choice.get("text"):
        return True
    delta = choice.get("delta")
    if not isinstance(delta, dict):
        return delta is not None
    return any(value for name, value in delta.items() if name != "role")


def _check_error(payload: dict[str, Any]) -> None:
    """Raise if the payload is an error that another server need not make; the client's own mistakes are passed on."""
    holder = payload.get("response")
    error = payload.get("error") or (holder.get("error") if isinstance(holder, dict) else None)
    if payload.get("type") == "error":
        error = error or payload
    if not isinstance(error, dict | str) or not error:
        return
    code = error.get("code") if isinstance(error, dict) else None
    if not (isinstance(code, int) and 400 <= code < 500):
        raise UpstreamBroke("The expert's engine failed before it began to answer.")
