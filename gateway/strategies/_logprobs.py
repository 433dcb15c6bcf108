"""Log-probabilities that we asked for: their mean, and answers as they would be without them. Sends nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import orjson

from gateway.answers import Opened, Stream, Usage
from gateway.errors import UpstreamBadResponse
from gateway.sse import EVENT_END, last_event_end, payload_of

# Quotes inside JSON strings are escaped, so these bytes can only be keys.
_GIVEN = re.compile(rb'(?<!\\)"(?:logprobs|usage)"\s*:\s*[{\[]')


class Confidence:
    """The running mean of token log-probabilities.

    Attributes:
        tokens: how many were seen.
        mean: their mean (natural logarithm); 0 without any.
    """

    def __init__(self) -> None:
        self.tokens = 0
        self._sum = 0.0

    @property
    def mean(self) -> float:
        """The mean so far."""
        return self._sum / self.tokens if self.tokens else 0.0

    def add(self, payload: dict[str, Any]) -> None:
        """Count the tokens of an answer's or a chunk's choices; what is malformed counts as nothing."""
        for choice in _choices(payload):
            given = choice.get("logprobs")
            entries = given.get("content") if isinstance(given, dict) else None
            for entry in entries if isinstance(entries, list) else ():
                value = entry.get("logprob") if isinstance(entry, dict) else None
                if isinstance(value, int | float) and not isinstance(value, bool):
                    # vLLM gives -inf as -9999.0; one such token must not outweigh a long answer.
                    self._sum += min(0.0, max(float(value), -20.0))
                    self.tokens += 1


def without_logprobs(body: dict[str, Any]) -> bytes:
    """Write a plain answer as it would be had nobody asked for log-probabilities."""
    for choice in _choices(body):
        choice["logprobs"] = None
    return orjson.dumps(body)


class Unasked:
    """A stream less what the client did not ask for: log-probabilities, and usage on every chunk.

    Args:
        opened: the stream.
        event_limit_bytes: longest single event.
        logprobs: the client did ask for log-probabilities.
        running_usage: the client did ask for usage on every chunk.

    Attributes:
        confidence: of the events seen so far.
        usage: as the last event with one says.
        events: how many whole events were seen.
        failed: an event said that the engine failed.
    """

    def __init__(self, opened: Opened, event_limit_bytes: int, *, logprobs: bool, running_usage: bool) -> None:
        assert opened.stream is not None, "a plain answer"
        self._stream: Stream = opened.stream
        self._limit = event_limit_bytes
        self._keep_logprobs = logprobs
        self._keep_usage = running_usage
        self._unfinished = b""
        self.confidence = Confidence()
        self.usage = Usage()
        self.events = 0
        self.failed = False

    def feed(self, chunk: bytes) -> bytes:
        """Take what arrived and return the whole events in it, less what was not asked for.

        Raises:
            UpstreamBadResponse: an event is longer than the limit.
        """
        seen = self._unfinished + chunk
        end = last_event_end(seen)
        events, self._unfinished = seen[:end], seen[end:]
        if len(self._unfinished) > self._limit:
            raise UpstreamBadResponse("The expert's stream has an event longer than the gateway takes.")
        return b"".join(self._cleaned(events))

    def rest(self) -> bytes:
        """Return what is left of an event that never ended."""
        rest, self._unfinished = self._unfinished, b""
        return rest

    async def read_chunk(self) -> bytes:
        """Return the next whole events; empty at the end.

        Raises:
            UpstreamError: it broke.
        """
        while chunk := await self._stream.read_chunk():
            if out := self.feed(chunk):
                return out
        return self.rest()

    def _cleaned(self, events: bytes) -> Iterator[bytes]:
        start = 0
        for match in EVENT_END.finditer(events):
            event, start = events[start : match.end()], match.end()
            self.events += 1
            if b'"error"' not in event and not _GIVEN.search(event):
                yield event
                continue
            payload = payload_of(event)
            yield event if payload is None else self._clean(event, payload)

    def _clean(self, event: bytes, payload: dict[str, Any]) -> bytes:
        self.failed = self.failed or isinstance(payload.get("error"), dict | str)
        self.confidence.add(payload)
        self._note_usage(payload.get("usage"))
        changed = False
        choices = _choices(payload)
        if choices and not self._keep_usage and isinstance(payload.get("usage"), dict):
            del payload["usage"]
            changed = True
        for choice in choices:
            if not self._keep_logprobs and choice.get("logprobs") is not None:
                choice["logprobs"], changed = None, True
        if not changed:
            return event
        return b"data: " + orjson.dumps(payload) + event[len(event.rstrip(b"\r\n")) :]

    def _note_usage(self, usage: Any) -> None:
        if not isinstance(usage, dict):
            return
        prompt, generated = usage.get("prompt_tokens"), usage.get("completion_tokens")
        self.usage.input_tokens = prompt if isinstance(prompt, int) else self.usage.input_tokens
        self.usage.output_tokens = generated if isinstance(generated, int) else self.usage.output_tokens


def _choices(payload: dict[str, Any]) -> list[dict[str, Any]]:
    choices = payload.get("choices")
    return [choice for choice in choices if isinstance(choice, dict)] if isinstance(choices, list) else []
