"""The content of a stream whatever the chunks it was cut into: vLLM joins tokens when its event loop is late.

Consecutive pieces of the same text become one; everything else of every event stays and is compared.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from .normalise import normalise

Event = dict[str, Any]

# Pieces of text: these strings are appended to each other. Other values replace what was there.
_PIECES = frozenset({"content", "reasoning", "text", "arguments", "delta", "thinking", "partial_json"})


def joined(body: bytes) -> list[Any]:
    """Return the events of a normalised stream with neighbouring pieces joined, `[DONE]` included."""
    lines = [line for line in normalise(body).split(b"\n") if line]
    payloads = [line.removeprefix(b"data: ").decode() for line in lines if line.startswith(b"data: ")]
    events = [payload if payload == "[DONE]" else json.loads(payload) for payload in payloads]
    if any(isinstance(event, dict) and "choices" in event for event in events):
        return _join_choices(events)
    return _join_neighbours(events)


def _join_choices(events: list[Any]) -> list[Any]:
    """Chat and completions: one folded object per choice, then what is not a choice, in order."""
    choices: dict[int, Event] = {}
    others: list[Any] = []
    for event in events:
        if isinstance(event, str) or not event["choices"]:
            others.append(event)
            continue
        for choice in event["choices"]:
            rest = {key: value for key, value in event.items() if key != "choices"}
            index = choice["index"]
            choices[index] = _add(choices.get(index, {}), choice | {"chunk": rest})
    return [choices, *others]


def _join_neighbours(events: list[Any]) -> list[Any]:
    """Responses and messages: successive delta events of one item become one event."""
    result: list[Any] = []
    for event in events:
        event.pop("sequence_number", None)
        if result and event["type"].endswith("delta") and _target(result[-1]) == _target(event):
            result[-1] = _add(result[-1], event)
        else:
            result.append(event)
    return result


def _target(event: Event) -> Iterable[object]:
    """What a delta event adds to."""
    delta = event.get("delta")
    kind = delta.get("type") if isinstance(delta, dict) else None
    return [event["type"], event.get("index"), event.get("item_id"), kind]


def _add(known: Any, more: Any, key: str = "") -> Any:
    """Fold a later piece into what is known."""
    if isinstance(known, dict) and isinstance(more, dict):
        return known | {name: _add(known.get(name), value, name) for name, value in more.items()}
    if isinstance(known, list) and isinstance(more, list):
        return _add_calls(known, more) if key == "tool_calls" else known + more
    if isinstance(known, str) and isinstance(more, str) and key in _PIECES:
        return known + more
    return known if more is None else more


def _add_calls(known: list[Event], more: list[Event]) -> list[Event]:
    """Tool calls have an index of their own."""
    calls = {call["index"]: call for call in known}
    for call in more:
        calls[call["index"]] = _add(calls.get(call["index"], {}), call)
    return list(calls.values())
