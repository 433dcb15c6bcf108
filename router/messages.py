"""Read role, text and modality flags out of one chat message; it never raises, and never follows deep nesting."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

MAX_DEPTH: Final = 3
"""Levels of content inside content that are read (a tool result holds parts; nothing real goes deeper)."""

_TEXT_PARTS: Final = frozenset({"text", "input_text", "output_text"})
_FLAGS: Final = {
    "image": "images",
    "image_url": "images",
    "input_image": "images",
    "audio": "audio",
    "audio_url": "audio",
    "input_audio": "audio",
    "file": "files",
    "input_file": "files",
    "document": "files",
    "tool_use": "tools",
    "tool_call": "tools",
    "tool_result": "tools",
    "server_tool_use": "tools",
    "function_call": "tools",
    "function_call_output": "tools",
}


@dataclass(slots=True)
class Reading:
    """What one message says: `texts` are its human-readable parts, `counted` everything the model will read."""

    role: str = ""
    texts: list[str] = field(default_factory=list)
    counted: list[str] = field(default_factory=list)
    flags: list[str] = field(default_factory=list)


def read_message(message: object) -> Reading:
    """Return what `message` says; anything malformed is simply an empty reading."""
    if not isinstance(message, Mapping):
        return Reading()
    role = message.get("role")
    reading = Reading(role if isinstance(role, str) else "")
    if reading.role in ("tool", "function") or message.get("tool_calls"):
        reading.flags.append("tools")
    _read_content(message.get("content"), reading, spoken=True, depth=0)
    reading.counted.extend(_call_arguments(message.get("tool_calls")))
    return reading


def _read_content(content: object, reading: Reading, *, spoken: bool, depth: int) -> None:
    if isinstance(content, str):
        reading.counted.append(content)
        if spoken:
            reading.texts.append(content)
    elif isinstance(content, list | tuple) and depth < MAX_DEPTH:
        for part in content:
            _read_part(part, reading, spoken=spoken, depth=depth + 1)


def _read_part(part: object, reading: Reading, *, spoken: bool, depth: int) -> None:
    if isinstance(part, str):
        _read_content(part, reading, spoken=spoken, depth=depth)
        return
    if not isinstance(part, Mapping):
        return
    kind = part.get("type", "text")
    if not isinstance(kind, str):
        return
    flag = _FLAGS.get(kind)
    if flag is not None:
        reading.flags.append(flag)
    if kind in _TEXT_PARTS:
        _read_content(part.get("text"), reading, spoken=spoken, depth=depth)
    elif flag == "tools":
        reading.counted.extend(text for text in (part.get("arguments"), part.get("output")) if isinstance(text, str))
        _read_content(part.get("content"), reading, spoken=False, depth=depth)


def _call_arguments(calls: object) -> Iterator[str]:
    if not isinstance(calls, list | tuple):
        return
    for call in calls:
        function = call.get("function") if isinstance(call, Mapping) else None
        arguments = function.get("arguments") if isinstance(function, Mapping) else None
        if isinstance(arguments, str):
            yield arguments
