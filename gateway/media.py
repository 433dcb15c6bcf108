"""Finds images, audio, video and files in a request, however they are dressed up. Fetches and decodes nothing.

vLLM takes a content part for what its keys say, with or without a `type`, so both are looked at. What a tool was
called with is the client's own data and is not searched.
"""

from __future__ import annotations

from typing import Any

from gateway.types import Capability

MAXIMUM_DEPTH = 6
_WORDS: dict[str, Capability] = {
    "image": "vision",
    "video": "vision",
    "audio": "audio",
    "document": "files",
    "embeds": "files",  # serialised tensors: image_embeds, prompt_embeds, ...
    "file": "files",
}
_NESTED = ("content", "output")


def media_in(content: Any) -> set[Capability]:
    """Return what an expert must be able to read besides text.

    Args:
        content: messages, input items or content parts, in lists nested as the APIs nest them.
    """
    found: set[Capability] = set()
    pending = [(content, 0)]
    while pending:
        value, depth = pending.pop()
        if isinstance(value, list) and depth < MAXIMUM_DEPTH:
            pending += [(item, depth + 1) for item in value if isinstance(item, dict | list)]
        elif isinstance(value, dict):
            kind = value.get("type")
            if kind == "text" and len(value) == 2 and "text" in value:
                continue
            found |= _named(kind) if isinstance(kind, str) else set()
            for key, inner in value.items():
                if key in _NESTED:
                    pending.append((inner, depth + 1))
                elif inner is not None or "uuid" in value:
                    # Clients repeat answers with their nulls; with a uuid a null means a cached image.
                    found |= _named(key)
    return found


def _named(name: str) -> set[Capability]:
    return {_WORDS[word] for word in name.split("_") if word in _WORDS}
