"""Server-sent events as bytes: where they end, what JSON they carry. Knows no endpoint and sends nothing."""

from __future__ import annotations

import re
from typing import Any

import orjson

EVENT_END = re.compile(rb"\r\n\r\n|\n\n|\r\r|\n\r\n|\r\n\n")
"""An event ends at an empty line; lines may end in LF, CRLF or CR (WHATWG HTML, "server-sent events")."""


LONGEST_END_BYTES = 4
"""Of `EVENT_END`."""


def last_event_end(seen: bytes | bytearray, start: int = 0) -> int:
    """Return where the last complete event ends, 0 when there is none; ends that begin before `start` do not count."""
    if seen.find(b"\r", start) < 0:
        return seen.rfind(b"\n\n", start) + 2 if seen.find(b"\n\n", start) >= 0 else 0
    end = 0
    for match in EVENT_END.finditer(seen, start):
        end = match.end()
    return end


def payload_of(event: bytes) -> dict[str, Any] | None:
    """Return the JSON object that an event carries, None when it carries something else."""
    lines = [line[5:].strip() for line in event.splitlines() if line.startswith(b"data:")]
    try:
        payload = orjson.loads(b"\n".join(lines))
    except orjson.JSONDecodeError:
        return None
    return payload if isinstance(payload, dict) else None


def data_event(payload: Any) -> bytes:
    """Write a nameless event, as the chat endpoint streams them.

    Raises:
        TypeError: the payload is nested deeper than JSON writers go.
    """
    return b"data: " + orjson.dumps(payload) + b"\n\n"
