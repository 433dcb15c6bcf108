"""What goes back over the wire: a whole body or a sequence of events. Values only; `wire` sends them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

import orjson

Action = Literal["send", "raw", "hang", "fin", "rst"]
"""send: as body; raw: past the HTTP framing; hang: wait for the client to leave; fin, rst: end the connection."""

BARE_HEADERS: Mapping[str, str] = MappingProxyType({"server": "uvicorn", "vary": "Origin"})
JSON_HEADERS: Mapping[str, str] = MappingProxyType({**BARE_HEADERS, "content-type": "application/json"})
EVENT_HEADERS: Mapping[str, str] = MappingProxyType(
    {**BARE_HEADERS, "content-type": "text/event-stream; charset=utf-8"}
)
DONE = b"data: [DONE]\n\n"


@dataclass(slots=True)
class Event:
    """One write.

    Args:
        data: Its bytes.
        step: Sent when this many tokens after the first are due; the first token is step 0.
        action: What to do.
        wait_s: Further wait before it.
    """

    data: bytes = b""
    step: int = 0
    action: Action = "send"
    wait_s: float = 0.0


@dataclass(slots=True)
class Reply:
    """An answer to one request.

    Args:
        body: All bytes, or the events of a stream.
        status: HTTP status.
        headers: HTTP headers; `content-length` makes a sequence of events a body of that length.
        steps: Tokens a whole body waits for.
        hold_s: Further wait before the headers.
        before: Done in place of sending anything: `hang`, `fin` or `rst`.
    """

    body: bytes | Iterable[Event] = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=lambda: JSON_HEADERS)
    steps: int = 0
    hold_s: float = 0.0
    before: Action | None = None


def json_reply(value: Any, *, status: int = 200, steps: int = 0) -> Reply:
    """A JSON body."""
    return Reply(orjson.dumps(value), status, JSON_HEADERS, steps)


def data_event(value: Any, step: int = 0) -> Event:
    """A nameless server-sent event, as the OpenAI endpoints stream."""
    return Event(b"data: " + orjson.dumps(value) + b"\n\n", step)


def interleaved(streams: list[list[dict[str, Any]]]) -> list[tuple[int, dict[str, Any]]]:
    """The chunks of several choices in turn, each with its step; shorter choices drop out."""
    longest = max(map(len, streams))
    return [(step, chunks[step]) for step in range(longest) for chunks in streams if step < len(chunks)]


def named_event(value: Any, step: int = 0) -> Event:
    """A server-sent event named by the object's `type`, as responses and messages stream."""
    name = value["type"].encode()
    return Event(b"event: " + name + b"\ndata: " + orjson.dumps(value) + b"\n\n", step)
