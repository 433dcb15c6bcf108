"""Watches a stream of server-sent events go by: usage, errors, the end; hides the usage chunk nobody asked for.

Events are relayed as they came. An unfinished one waits for its end, so that a broken stream breaks between two
events and the error event after it can be read; it is searched once only, however small the pieces it comes in. An
error is held back: whoever resumes the answer elsewhere leaves it out. Where usage was asked for by us only, the
answer must look as if nobody had: vLLM then moves `system_fingerprint` from the finishing chunk to the usage chunk, so
the finishing chunk waits for its successor and gets the fingerprint back. Nothing here waits for the network or sends.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import orjson

from gateway.answers import Usage
from gateway.errors import PointsmanError, UpstreamBadResponse, UpstreamBroke
from gateway.sse import EVENT_END, LONGEST_END_BYTES, last_event_end, payload_of
from gateway.types import Endpoint

_DONE = re.compile(rb"(?:^|[\r\n])data: ?\[DONE\]")
# Inside JSON strings quotes are escaped, so these bytes can only be keys: events without them need no parsing.
_INTERESTING = (b'"usage"', b'"error"', b'"finish_reason":"')
# How a stream says that it is complete: bytes to look for first, because that is cheap, and the exact line.
# Responses and messages have no [DONE]; the last event's own name is the end.
_ENDINGS = {
    Endpoint.RESPONSES: (
        b"event: response.",
        re.compile(rb"(?:^|[\r\n])event: ?response\.(?:completed|incomplete|failed)[\r\n]"),
    ),
    Endpoint.MESSAGES: (b"message_stop", re.compile(rb"(?:^|[\r\n])event: ?message_stop[\r\n]")),
}

LONGEST_FINISH = 40
# What of an event's bytes is one token, or the few that vLLM puts into one event; the second is none after all.
_TOKENS = {
    Endpoint.COMPLETIONS: (b'"text":', b'"text":""'),
    Endpoint.RESPONSES: (b"event: response.output_text.delta", b"\0"),
    Endpoint.MESSAGES: (b"event: content_block_delta", b"\0"),
}


class StreamRelay:
    """Follows one stream.

    Args:
        endpoint: whose stream it is; they end differently.
        hide_usage: leave out the event that carries only usage.
        event_limit_bytes: longest single event; a line without end must not fill the memory.

    Attributes:
        usage: token counts, as far as seen.
        finished: the stream said that it is complete.
        finish: why it ended, as the stream said; None when it did not.
        failure: what the stream said went wrong; it ends there, and the event that said so is held back.
    """

    def __init__(self, endpoint: Endpoint, *, hide_usage: bool, event_limit_bytes: int) -> None:
        self._hint, self._end = _ENDINGS.get(endpoint, (b"[DONE]", _DONE))
        self._token, self._no_token = _TOKENS.get(endpoint, (b'"delta":{"', b'"delta":{"role"'))
        self._tokens = 0
        self._hide_usage = hide_usage
        self._event_limit_bytes = event_limit_bytes
        self._unfinished = bytearray()
        self._held = b""
        self.usage = Usage()
        self.finished = False
        self.finish: str | None = None
        self.failure: PointsmanError | None = None

    def feed(self, chunk: bytes) -> bytes:
        """Take what arrived and return what may go to the client now: whole events, as they came.

        Raises:
            UpstreamBadResponse: an event is longer than the limit.
        """
        events = self._whole_events(chunk)
        self._tokens += events.count(self._token) - events.count(self._no_token)
        if self._hint in events and self._end.search(events):
            self.finished = True
        if not self._held and not any(hint in events for hint in _INTERESTING):
            return events
        return b"".join(self._released(events))

    def count_what_went_out(self) -> None:
        """Let the usage of a stream that was cut before it told any be the events with tokens that went by."""
        if not self.finished:
            self.usage.output_tokens = max(self.usage.output_tokens or 0, self._tokens)

    def held(self) -> bytes:
        """Return the whole events that are still held back, when the stream ends without a successor to them."""
        held, self._held = self._held, b""
        return held

    def _whole_events(self, chunk: bytes) -> bytes:
        """Return what is complete with this chunk, and keep the rest."""
        pending = self._unfinished
        if not pending:
            end = len(chunk) if chunk.endswith(b"\n\n") else last_event_end(chunk)
            if end == len(chunk):
                return chunk
            pending += chunk[end:]
            events = chunk[:end]
        else:
            # No end lies in what was kept before, so one that is found now ends in this chunk.
            start = max(0, len(pending) - LONGEST_END_BYTES + 1)
            pending += chunk
            end = last_event_end(pending, start)
            events = bytes(pending[:end])
            del pending[:end]
        if len(pending) > self._event_limit_bytes:
            raise UpstreamBadResponse("The expert's stream has an event longer than the gateway takes.")
        return events

    def _released(self, events: bytes) -> Iterator[bytes]:
        """Yield the events that go out, up to and with an error."""
        start = 0
        for match in EVENT_END.finditer(events):
            event, start = events[start : match.end()], match.end()
            payload = payload_of(event)
            if self._hide_usage and payload is not None and _is_usage_only(payload):
                note_usage(self.usage, payload["usage"])
                yield _with_fingerprint(self.held(), payload.get("system_fingerprint"))
                continue
            yield self.held()
            if payload is not None:
                self._note(payload)
            if self.failure is not None or (self._hide_usage and payload is not None and _finishes(payload)):
                self._held = event
            else:
                yield event
            if self.failure is not None:
                return

    def _note(self, payload: dict[str, Any]) -> None:
        """Note usage and errors of one event."""
        if isinstance(payload.get("error"), dict | str):
            self.failure = UpstreamBroke("The expert's engine failed in the middle of its answer.")
            self.finished = False
        self.finish = finish_of(payload) or self.finish
        holder = payload.get("response") or payload.get("message") or payload
        usage = holder.get("usage") if isinstance(holder, dict) else None
        if isinstance(usage, dict):
            note_usage(self.usage, usage)


def note_usage(known: Usage, reported: dict[str, Any]) -> None:
    """Add what a `usage` object of any of the APIs says to what is known."""
    details = reported.get("prompt_tokens_details") or reported.get("input_tokens_details")
    cached = details.get("cached_tokens") if isinstance(details, dict) else reported.get("cache_read_input_tokens")
    known.input_tokens = _count(reported, "prompt_tokens", "input_tokens", known.input_tokens)
    known.output_tokens = _count(reported, "completion_tokens", "output_tokens", known.output_tokens)
    known.cached_tokens = cached if isinstance(cached, int) else known.cached_tokens


def finish_of(payload: dict[str, Any]) -> str | None:
    """Return why an answer ended, in its API's own word, from the whole answer or a stream's event."""
    choices, delta, response = payload.get("choices"), payload.get("delta"), payload.get("response", payload)
    found: object = None
    if isinstance(choices, list):
        reasons = [choice.get("finish_reason") for choice in choices if isinstance(choice, dict)]
        found = next((reason for reason in reasons if reason), None)
    elif isinstance(delta, dict) or "stop_reason" in payload:  # messages
        found = delta.get("stop_reason") if isinstance(delta, dict) else payload["stop_reason"]
    elif isinstance(response, dict) and response.get("object") == "response":
        details = response.get("incomplete_details")
        found = (details.get("reason") if isinstance(details, dict) else None) or response.get("status")
    return found[:LONGEST_FINISH] if isinstance(found, str) else None


def error_event(error: PointsmanError, endpoint: Endpoint) -> bytes:
    """Write the event that ends a broken stream, in the form the endpoint's clients look for."""
    if endpoint is Endpoint.MESSAGES:
        return b"event: error\ndata: " + error.body(anthropic=True) + b"\n\n"
    if endpoint is Endpoint.RESPONSES:
        # The Responses API's error event has its fields at the top; ours carries both forms.
        payload = {
            "type": "error",
            "code": error.code,
            "message": error.message,
            "param": None,
            **error.payload(),
        }
        return b"event: error\ndata: " + orjson.dumps(payload) + b"\n\n"
    return b"data: " + error.body() + b"\n\n"


def _count(reported: dict[str, Any], name: str, other: str, known: int | None) -> int | None:
    value = reported.get(name, reported.get(other))
    return value if isinstance(value, int) else known


def _is_usage_only(payload: dict[str, Any]) -> bool:
    return payload.get("choices") == [] and isinstance(payload.get("usage"), dict)


def _finishes(payload: dict[str, Any]) -> bool:
    choices = payload.get("choices")
    return isinstance(choices, list) and any(isinstance(c, dict) and c.get("finish_reason") for c in choices)


def _with_fingerprint(event: bytes, fingerprint: Any) -> bytes:
    """Give a finishing chunk the fingerprint that the usage chunk took, where vLLM writes it: at the end."""
    written = event.rstrip(b"\r\n")
    if not isinstance(fingerprint, str) or not written.endswith(b"}") or b'"system_fingerprint"' in written:
        return event
    return written[:-1] + b',"system_fingerprint":' + orjson.dumps(fingerprint) + b"}" + event[len(written) :]
