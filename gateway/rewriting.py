"""Puts text of ours into a conversation: an expert's own instructions, a note for whoever answers. Pure; sends nothing.

Instructions join the conversation's first system message, because several chat templates refuse a second one or one
further down.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from gateway.types import Rewrite

SYSTEM_ROLES = ("system", "developer")


def rewrite_of(system: str | None, prefix: str | None, suffix: str | None) -> Rewrite | None:
    """Return a rewrite; records name it by the first 12 hex digits of its texts' SHA-256. None without any text."""
    if not (system or prefix or suffix):
        return None
    texts = (system or "", prefix or "", suffix or "")
    return Rewrite(*texts, hashlib.sha256(repr(texts).encode()).hexdigest()[:12])


def rewritten(body: Mapping[str, Any], rewrite: Rewrite) -> dict[str, Any]:
    """Return a chat body with an expert's own instructions, and its prefix and suffix around the last user text."""
    messages = list(body["messages"])
    if rewrite.prefix or rewrite.suffix:
        at = next((i for i in reversed(range(len(messages))) if messages[i].get("role") == "user"), None)
        if at is not None:
            content = _around(messages[at].get("content"), rewrite.prefix, rewrite.suffix)
            messages[at] = {**messages[at], "content": content}
    if rewrite.system:
        messages = with_system(messages, rewrite.system)
    return {**body, "messages": messages}


def with_system(messages: list[Any], text: str, *, first: bool = True) -> list[Any]:
    """Return messages with more text in their first system message, or with one before all others.

    Args:
        messages: checked messages, at least one.
        text: what is added.
        first: before what the system message says already; else behind it.
    """
    head = messages[0]
    if head.get("role") not in SYSTEM_ROLES:
        return [{"role": "system", "content": text}, *messages]
    content = head.get("content") or ""
    if isinstance(content, str):
        parts = (text, content) if first else (content, text)
        joined: Any = "\n\n".join(part for part in parts if part)
    else:
        part = {"type": "text", "text": text}
        joined = [part, *content] if first else [*content, part]
    return [{**head, "content": joined}, *messages[1:]]


def _around(content: Any, prefix: str, suffix: str) -> Any:
    """Put text around a message's content; of parts around the texts in it, a picture stays where it is."""
    if not isinstance(content, list):
        return f"{prefix}{content or ''}{suffix}"
    parts = list(content)
    texts = [i for i, part in enumerate(parts) if part.get("type") == "text" and isinstance(part.get("text"), str)]
    if not texts:
        return [*parts, {"type": "text", "text": prefix + suffix}]
    parts[texts[0]] = {**parts[texts[0]], "text": prefix + parts[texts[0]]["text"]}
    parts[texts[-1]] = {**parts[texts[-1]], "text": parts[texts[-1]]["text"] + suffix}
    return parts
