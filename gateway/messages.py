"""Reads single messages of the conversation APIs for what identifies them: who speaks, and the two ends of a text.

Leaves out what clients and harnesses change when they send a message again. Knows nothing of conversations.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from router import strip_harness

HUMAN: Final = "human"
ASSISTANT: Final = "assistant"
TOOL: Final = "tool"

END_CHARACTERS: Final = 1_024
"""So much of either end of a text identifies it."""
SCANNED_CHARACTERS: Final = 4_096
"""So much of either end is looked through for a harness's blocks before."""
MOST_PARTS: Final = 32
_NESTED_PARTS: Final = 4
_REFERENCE_CHARACTERS: Final = 128

_ROLES: Final = {"user": HUMAN, "human": HUMAN, "assistant": ASSISTANT, "tool": TOOL, "function": TOOL}
_TEXTS: Final = frozenset({"text", "input_text", "output_text", "refusal"})
_RESULTS: Final = frozenset({"tool_result", "tool_response", "function_response"})
_UNSAID: Final = frozenset({"thinking", "redacted_thinking", "reasoning", "reasoning_text", "summary_text"})
_REFERENCES: Final = ("url", "image_url", "file_id", "file_url", "data", "file_data", "filename")
_END_OF_REASONING: Final = "</think>"

Piece = tuple[str, str]
"""What kind of thing and what identifies it: `text`, `result`, `call`, or the type of another content part."""


def speaker_of(item: Any) -> str:
    """Return who speaks in a message or input item, "" for instructions, reasoning and what is malformed."""
    if not isinstance(item, dict):
        return ""
    role = item.get("role")
    if role is not None:
        return _ROLES.get(role, "") if isinstance(role, str) else ""
    kind = item.get("type")
    if not isinstance(kind, str):
        return ""
    if kind.endswith("_output"):
        return TOOL
    return ASSISTANT if kind.endswith("_call") else ""


def pieces_of(item: Mapping[str, Any]) -> list[Piece]:
    """Return what identifies a message, apart from who speaks; nothing when a harness alone speaks in it.

    Bounded in size and time, whatever the message holds.
    """
    pieces: list[Piece] = []
    texts = _read(item.get("content"), pieces)
    if item.get("role") is None:
        texts += _read(item.get("output"), pieces)
    text = _identity(texts, reasoned=item.get("role") == "assistant")
    if text:
        pieces.append(("text", text))
    pieces += [("call", name) for name in _calls(item)]
    return pieces


def _read(content: Any, pieces: list[Piece], most: int = MOST_PARTS) -> list[str]:
    """Return the texts of a content; parts of other kinds go to `pieces`."""
    if isinstance(content, str):
        return [content]
    texts: list[str] = []
    for part in _ends_of(content, most) if isinstance(content, list) else ():
        kind, text = "text", part
        if isinstance(part, dict):
            kind, text = part.get("type", "text"), part.get("text", part.get("refusal"))
        if kind not in _TEXTS if isinstance(kind, str) else True:
            pieces += _other(part, kind, nested=most < MOST_PARTS)
        elif isinstance(text, str):
            texts.append(text)
    return texts


def _ends_of(parts: Sequence[Any], most: int) -> Sequence[Any]:
    return parts if len(parts) <= most else [*parts[: most // 2], *parts[-most // 2 :]]


def _other(part: Mapping[str, Any], kind: Any, *, nested: bool) -> Iterator[Piece]:
    if not isinstance(kind, str) or kind in _UNSAID:
        return
    if kind in _RESULTS:
        inner: list[Piece] = []
        texts = [] if nested else _read(part.get("content"), inner, _NESTED_PARTS)
        yield "result", _identity(texts)
        yield from inner
    elif kind.endswith(("tool_use", "_call")):
        yield "call", _name(part)
    else:
        yield kind, _reference(part)


def _calls(item: Mapping[str, Any]) -> Iterator[str]:
    """Yield the names of called tools, in chat's form and as an input item."""
    calls = item.get("tool_calls")
    for call in calls[:MOST_PARTS] if isinstance(calls, list) else ():
        yield _name(call.get("function") or call) if isinstance(call, dict) else ""
    if isinstance(item.get("function_call"), dict):
        yield _name(item["function_call"])
    if item.get("role") is None and isinstance(item.get("name"), str):
        yield _name(item)


def _name(call: Any) -> str:
    name = call.get("name") if isinstance(call, dict) else None
    return name[:_REFERENCE_CHARACTERS] if isinstance(name, str) else ""


def _reference(part: Mapping[str, Any]) -> str:
    """Return what an image, a file or audio is known by: the ends of its address, id or data."""
    for value in (part, *(inner for inner in part.values() if isinstance(inner, dict))):
        for key in _REFERENCES:
            found = value.get(key)
            if isinstance(found, str):
                return f"{len(found)}:{found[:_REFERENCE_CHARACTERS]}{found[-_REFERENCE_CHARACTERS:]}"
    return ""


def _identity(texts: Sequence[str], *, reasoned: bool = False) -> str:
    """Return the two ends of some texts, without blanks, reasoning and a harness's blocks.

    The length of what is too long to be looked through goes in too, unless a block was taken out: blocks come and go.
    """
    if reasoned:
        texts = [text.rpartition(_END_OF_REASONING)[2] for text in texts]
    text, length = "\n".join(_ends(text) for text in texts), sum(map(len, texts))
    ends = _ends(text)
    said = strip_harness(ends)
    words = said.strip()
    while "\n\n" in words:  # what a block leaves behind
        words = words.replace("\n\n", "\n")
    if len(words) > 2 * END_CHARACTERS:
        words = f"{words[:END_CHARACTERS]}\n{words[-END_CHARACTERS:]}"
    return words if length <= 2 * SCANNED_CHARACTERS or said != ends else f"{words}\n{length}"


def _ends(text: str) -> str:
    if len(text) <= 2 * SCANNED_CHARACTERS:
        return text
    return f"{text[:SCANNED_CHARACTERS]}\n{text[-SCANNED_CHARACTERS:]}"
